//! The summary on the terminal.

use std::fmt::Write;

use crate::load::outcome::{Outcome, Percentiles, ServerUse};

/// The outcome in a few lines.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    // A string takes whatever is written to it.
    let _ = write_all(outcome, &mut out);
    out
}

fn write_all(outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let Outcome { run, sessions, verified, measured, latency_us, generator, .. } = outcome;
    writeln!(out, "{} over {} on {}", run.mode, run.transport, run.url)?;
    let pace = match (run.window, run.rate) {
        (Some(window), _) => format!("closed loop, window {window}"),
        (None, Some(rate)) => format!("{rate:.0} messages/s by schedule"),
        (None, None) => "nothing published".to_owned(),
    };
    writeln!(
        out,
        "  workload    {} clients, {} publishers, {} rooms, {} per client; batches of {} x {} bytes; {pace}{}",
        run.clients,
        run.publishers,
        run.rooms,
        run.rooms_per_client,
        run.batch_size,
        run.message_size,
        if run.ack { "; acknowledged" } else { "" },
    )?;
    writeln!(
        out,
        "  sessions    {} in {:.2} s; {} ended, {} broken, {} connections made again",
        sessions.joined, sessions.join_seconds, sessions.ended, sessions.broken, sessions.reopened_connections,
    )?;
    if measured.published > 0 {
        writeln!(
            out,
            "  published   {} in {:.2} s, {:.0}/s; {} refused, {} without reply",
            measured.published, measured.seconds, measured.published_per_second, verified.refused, verified.unanswered,
        )?;
        let together = measured.deliveries_per_body.map(|mean| format!(", {mean:.1} at a time")).unwrap_or_default();
        writeln!(
            out,
            "  delivered   {}, {:.0}/s{together}; {:.1} MiB/s in, {:.1} MiB/s out",
            measured.delivered,
            measured.delivered_per_second,
            measured.received_mib_per_second,
            measured.sent_mib_per_second,
        )?;
    }
    writeln!(
        out,
        "  verified    {} of {} owed; {} lost, {} doubled, {} out of order, {} stray",
        verified.delivered,
        verified.owed,
        verified.lost + verified.lost_of_ended_sessions,
        verified.doubled,
        verified.reordered,
        verified.stray,
    )?;
    let rows = [("delivery", &latency_us.delivery), ("reply", &latency_us.reply), ("lateness", &latency_us.lateness)];
    if rows.iter().any(|(_, row)| row.is_some()) {
        writeln!(out, "  latency         min      p50      p90      p99    p99.9      max   in µs")?;
    }
    for (name, row) in rows {
        percentiles(name, row.as_ref(), out)?;
    }
    if let Some(server) = &outcome.server {
        use_of_server(server, out)?;
    }
    let cpu: Vec<_> = generator.cpu_per_thread.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
    if !cpu.is_empty() {
        let each = generator.cpu_us_per_delivery.map(|micros| format!(", {micros:.2} µs per delivery"));
        writeln!(out, "  generator   {} of a core{}", cpu.join(", "), each.unwrap_or_default())?;
    }
    for (reason, count) in &outcome.reasons {
        writeln!(out, "  reason      {count} x {reason}")?;
    }
    for warning in &outcome.warnings {
        writeln!(out, "  warning     {warning}")?;
    }
    for failure in &outcome.failures {
        writeln!(out, "  FAILED      {failure}")?;
    }
    Ok(())
}

fn percentiles(name: &str, row: Option<&Percentiles>, out: &mut String) -> std::fmt::Result {
    let Some(Percentiles { min, p50, p90, p99, p999, max, .. }) = row else { return Ok(()) };
    writeln!(out, "    {name:<9} {min:>8.0} {p50:>8.0} {p90:>8.0} {p99:>8.0} {p999:>8.0} {max:>8.0}")
}

fn use_of_server(server: &ServerUse, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "  server      {:.2} cores (user {:.2} s, system {:.2} s)",
        server.cores, server.cpu_user_seconds, server.cpu_system_seconds
    )?;
    if let (Some(delivery), Some(publish)) = (server.cpu_us_per_delivery, server.cpu_us_per_publish) {
        write!(out, "; CPU {delivery:.2} µs per delivery, {publish:.1} µs per publish")?;
    }
    writeln!(
        out,
        "\n  memory      {} KiB before, {} KiB with sessions, {} KiB after; {:.2} KiB per session",
        server.resident_kib_before,
        server.resident_kib_with_sessions,
        server.resident_kib_after,
        server.kib_per_session,
    )
}
