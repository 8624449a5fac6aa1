/**
 * What a warm load costs at least: a worker that reads the shards of the one model in browser storage, piece by piece,
 * and writes them to GPU buffers. `warm-load.mjs` serves it to its page.
 *
 * It answers any message with `{bytes, queuedMs, doneMs}`: the times until all is handed to the GPU's queue, and until
 * the queue has done it.
 */
const PIECE_BYTES = 4 << 20;
const MAX_BUFFER_BYTES = 256 << 20;

addEventListener("message", async () => {
  try {
    postMessage(await copy());
  } catch (error) {
    postMessage({ error: String(error) });
  }
});

async function copy() {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  const { maxBufferSize } = adapter.limits;
  const device = await adapter.requestDevice({ requiredLimits: { maxBufferSize } });
  const shards = await shardsInOrder();
  const room = Math.min(MAX_BUFFER_BYTES, maxBufferSize);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
  const buffers = [];
  for (const { size } of shards) {
    for (let at = 0; at < size; at += room) {
      buffers.push(device.createBuffer({ size: aligned(Math.min(room, size - at)), usage }));
    }
  }
  const piece = new Uint8Array(PIECE_BYTES);
  const start = performance.now();
  let bytes = 0;
  let next = 0;
  for (const { handle, size } of shards) {
    const file = await handle.createSyncAccessHandle({ mode: "read-only" });
    for (let at = 0; at < size; at += PIECE_BYTES) {
      const buffer = buffers[next + Math.floor(at / room)];
      const length = file.read(piece.subarray(0, Math.min(PIECE_BYTES, size - at)), { at });
      device.queue.writeBuffer(buffer, at % room, piece, 0, aligned(length));
      bytes += length;
    }
    next += Math.ceil(size / room);
    file.close();
  }
  const queuedMs = performance.now() - start;
  await device.queue.onSubmittedWorkDone();
  const doneMs = performance.now() - start;
  for (const buffer of buffers) buffer.destroy();
  device.destroy();
  return { bytes, queuedMs, doneMs };
}

async function shardsInOrder() {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models");
  const shards = [];
  for await (const directory of models.values()) {
    for await (const [name, handle] of directory) {
      if (name.startsWith("shard-")) shards.push({ name, handle, size: (await handle.getFile()).size });
    }
  }
  return shards.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A multiple of 4, as writes to buffers are. */
function aligned(bytes) {
  return (bytes + 3) & ~3;
}
