//! Frames that RFC 6455 forbids: the connection fails, by a close with a fitting code or by being cut.

use crate::conformance::case::{Case, WEBSOCKET, case};
use crate::conformance::client::upgrade;
use crate::conformance::cx::Cx;
use crate::conformance::outcome::{Outcome, ensure};
use crate::conformance::wire::{Frame, Opcode, WebSocket, encode, within};

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        case!(hostile_frame_unmasked).must("TW-28", WEBSOCKET, "A frame without a mask fails the connection"),
        case!(hostile_frame_reserved_bits).must("TW-28", WEBSOCKET, "Reserved bits fail the connection"),
        case!(hostile_frame_reserved_opcodes).must("TW-28", WEBSOCKET, "Reserved opcodes fail the connection"),
        case!(hostile_frame_continuation_of_nothing).must(
            "TW-28",
            WEBSOCKET,
            "A continuation of nothing fails the connection",
        ),
        case!(hostile_frame_message_within_a_message).must(
            "TW-28",
            WEBSOCKET,
            "A text frame within a fragmented message fails the connection",
        ),
        case!(hostile_frame_fragmented_control).must("TW-28", WEBSOCKET, "A ping in fragments fails the connection"),
        case!(hostile_frame_long_control).must("TW-28", WEBSOCKET, "A ping of 126 bytes fails the connection"),
        case!(hostile_frame_close_codes).must(
            "TW-28",
            WEBSOCKET,
            "Closes with 0, 999, 1005 and 1006 fail the connection",
        ),
        case!(hostile_frame_close_of_one_byte).must(
            "TW-28",
            WEBSOCKET,
            "A close with half a code fails the connection",
        ),
        case!(hostile_frame_close_reason).should(
            "TW-28",
            WEBSOCKET,
            "A close whose reason is not UTF-8 fails the connection",
        ),
        case!(hostile_frame_utf_8).must("TW-28 TW-20", WEBSOCKET, "Text that is not UTF-8 fails the connection"),
        case!(hostile_frame_utf_8_code).ours(
            "TW-28 TW-20",
            WEBSOCKET,
            "Text that is not UTF-8 closes the connection with 1007",
        ),
        case!(hostile_frame_utf_8_in_fragments).should(
            "TW-28",
            WEBSOCKET,
            "A character that is cut off by the end of fragments fails the connection",
        ),
        case!(hostile_frame_huge_length).must("TW-21 TW-28", WEBSOCKET, "A frame of 2^62 bytes fails the connection"),
        case!(hostile_frame_negative_length).must(
            "TW-28",
            WEBSOCKET,
            "A length with its highest bit set fails the connection",
        ),
        case!(hostile_frame_endless_message).should(
            "TW-21 Z-10",
            WEBSOCKET,
            "A message of fragments without end fails the connection",
        ),
        case!(hostile_frame_many_pings).should("TW-28", WEBSOCKET, "10,000 pings are answered, or fail the connection"),
        case!(hostile_frame_many_empty_fragments).should(
            "TW-28",
            WEBSOCKET,
            "10,000 empty fragments are read, or fail the connection",
        ),
        case!(hostile_frame_half).should("TW-28", WEBSOCKET, "A connection that ends within a frame is let go"),
        case!(hostile_nothing_after_the_upgrade).should(
            "TW-28",
            WEBSOCKET,
            "Fifty WebSockets that say nothing delay nobody",
        ),
        case!(hostile_after_close).should("TW-28", WEBSOCKET, "What comes after a close is ignored"),
    ];
    cases.into_iter().map(Case::hostile).collect()
}

async fn open(cx: &Cx) -> Outcome<WebSocket> {
    upgrade(&cx.env, &cx.log, "", &[]).await
}

/// The codes that are right for most: protocol error, and none at all.
const PROTOCOL: &[u16] = &[1002];

/// The connection fails after these bytes: it is closed with one of these codes, or cut.
async fn fails(cx: &Cx, mut socket: WebSocket, bytes: &[u8], codes: &[u16]) -> Outcome {
    // The server may fail the connection before all is written.
    let _ = within(cx.env.options.timeout, socket.raw(bytes)).await;
    loop {
        match within(cx.env.options.timeout, socket.next()).await? {
            Frame::Cut | Frame::Close(None, _) => break,
            Frame::Close(Some(code), _) => {
                ensure!(codes.contains(&code), "expected a close with {codes:?}, or just the end, got {code}");
                break;
            }
            Frame::Ping(_) => {}
            other @ (Frame::Text(_) | Frame::Binary(_) | Frame::Pong(_)) => {
                ensure!(false, "expected the connection to fail, got {other:?}");
            }
        }
    }
    cx.still_serves().await
}

async fn frame_fails(cx: &Cx, bytes: &[u8]) -> Outcome {
    fails(cx, open(cx).await?, bytes, PROTOCOL).await
}

async fn hostile_frame_unmasked(cx: &Cx) -> Outcome {
    frame_fails(cx, &encode(0x81, false, b"[]")).await
}

async fn hostile_frame_reserved_bits(cx: &Cx) -> Outcome {
    for bit in [0x40, 0x20, 0x10] {
        frame_fails(cx, &encode(0x81 | bit, true, b"[]")).await?;
    }
    Ok(())
}

async fn hostile_frame_reserved_opcodes(cx: &Cx) -> Outcome {
    for opcode in [3, 7, 11, 15] {
        frame_fails(cx, &encode(0x80 | opcode, true, b"[]")).await?;
    }
    Ok(())
}

async fn hostile_frame_continuation_of_nothing(cx: &Cx) -> Outcome {
    frame_fails(cx, &encode(0x80, true, b"[]")).await
}

async fn hostile_frame_message_within_a_message(cx: &Cx) -> Outcome {
    frame_fails(cx, &[encode(0x01, true, b"["), encode(0x81, true, b"]")].concat()).await
}

async fn hostile_frame_fragmented_control(cx: &Cx) -> Outcome {
    frame_fails(cx, &encode(Opcode::Ping as u8, true, b"half")).await
}

async fn hostile_frame_long_control(cx: &Cx) -> Outcome {
    frame_fails(cx, &encode(0x89, true, &[0; 126])).await
}

async fn hostile_frame_close_codes(cx: &Cx) -> Outcome {
    for code in [0_u16, 999, 1005, 1006] {
        frame_fails(cx, &encode(0x88, true, &code.to_be_bytes())).await?;
    }
    Ok(())
}

async fn hostile_frame_close_of_one_byte(cx: &Cx) -> Outcome {
    frame_fails(cx, &encode(0x88, true, &[3])).await
}

async fn hostile_frame_close_reason(cx: &Cx) -> Outcome {
    fails(cx, open(cx).await?, &encode(0x88, true, b"\x03\xe8\xff\xfe"), &[1002, 1007]).await
}

async fn hostile_frame_utf_8(cx: &Cx) -> Outcome {
    fails(cx, open(cx).await?, &encode(0x81, true, b"[\"\xff\"]"), &[1002, 1003, 1007]).await
}

async fn hostile_frame_utf_8_code(cx: &Cx) -> Outcome {
    let mut socket = open(cx).await?;
    socket.raw(&encode(0x81, true, b"[\"\xff\"]")).await?;
    let frame = within(cx.env.options.timeout, socket.next()).await?;
    ensure!(matches!(frame, Frame::Close(Some(1007), _)), "expected a close with 1007, got {frame:?}");
    Ok(())
}

async fn hostile_frame_utf_8_in_fragments(cx: &Cx) -> Outcome {
    let bytes = [encode(0x01, true, b"[\"\xc3"), encode(0x80, true, b"\"]")].concat();
    fails(cx, open(cx).await?, &bytes, &[1002, 1003, 1007]).await
}

/// The head of a masked text frame of this length.
fn head(length: u64) -> Vec<u8> {
    [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4], b"some bytes"].concat()
}

async fn hostile_frame_huge_length(cx: &Cx) -> Outcome {
    fails(cx, open(cx).await?, &head(1 << 62), &[1002, 1009]).await
}

async fn hostile_frame_negative_length(cx: &Cx) -> Outcome {
    fails(cx, open(cx).await?, &head(u64::MAX), &[1002, 1009]).await
}

async fn hostile_frame_endless_message(cx: &Cx) -> Outcome {
    let piece = encode(0x00, true, &[b' '; 64 << 10]);
    let bytes = [encode(0x01, true, b"["), piece.repeat(320)].concat();
    fails(cx, open(cx).await?, &bytes, &[1002, 1007, 1008, 1009]).await
}

/// The server goes on with the connection, or fails it; then serves others.
async fn any_end(cx: &Cx, mut socket: WebSocket, bytes: &[u8]) -> Outcome {
    let _ = within(cx.env.options.timeout, socket.raw(bytes)).await;
    let _ = within(cx.env.options.timeout, socket.next()).await;
    drop(socket);
    cx.still_serves().await
}

async fn hostile_frame_many_pings(cx: &Cx) -> Outcome {
    any_end(cx, open(cx).await?, &encode(0x89, true, &[7; 100]).repeat(10_000)).await
}

async fn hostile_frame_many_empty_fragments(cx: &Cx) -> Outcome {
    let bytes = [encode(0x01, true, b"["), encode(0x00, true, b"").repeat(10_000), encode(0x80, true, b"]")].concat();
    any_end(cx, open(cx).await?, &[bytes, encode(0x89, true, b"")].concat()).await
}

async fn hostile_frame_half(cx: &Cx) -> Outcome {
    for part in [1, 2, 5, 20] {
        let mut socket = open(cx).await?;
        socket.raw(&encode(0x81, true, &[b' '; 500])[..part]).await?;
        drop(socket);
    }
    cx.still_serves().await
}

async fn hostile_nothing_after_the_upgrade(cx: &Cx) -> Outcome {
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(open(cx).await?);
    }
    cx.still_serves().await?;
    drop(idle);
    Ok(())
}

async fn hostile_after_close(cx: &Cx) -> Outcome {
    let mut socket = open(cx).await?;
    let close = encode(0x88, true, &1000_u16.to_be_bytes());
    let hello = br#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["websocket"]}]"#;
    socket.raw(&[close, encode(0x81, true, hello)].concat()).await?;
    let frame = within(cx.env.options.timeout, socket.next()).await?;
    ensure!(matches!(frame, Frame::Close(..) | Frame::Cut), "expected a close, got {frame:?}");
    cx.still_serves().await
}
