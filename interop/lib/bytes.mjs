// Bytes in JSON: `{"$bytes": base64}`.

/** For `JSON.stringify`. */
export const toText = (key, value) =>
  value instanceof Uint8Array ? { $bytes: Buffer.from(value).toString('base64') } : value;

/** For `JSON.parse`. */
export const toBytes = (key, value) =>
  typeof value?.$bytes === 'string' ? new Uint8Array(Buffer.from(value.$bytes, 'base64')) : value;
