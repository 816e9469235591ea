/** `struct mallinfo2`: ten `size_t`. */
const MALLINFO = { struct: Array(10).fill("usize") as "usize"[] } as const;
const HBLKHD = 4; // bytes in blocks of their own
const UORDBLKS = 7; // bytes in use of the arenas

interface Allocator {
  mallinfo2(): Uint8Array<ArrayBuffer>;
}

/**
 * Bytes that native code has allocated with malloc(3) and not freed, in Deno on glibc; undefined elsewhere. Resident
 * memory does not tell of a leak: the allocator keeps what was freed, by each of Deno's threads.
 */
export function allocated(): number | undefined {
  if (!("Deno" in globalThis)) return undefined;
  allocator ??= openAllocator();
  if (!allocator) return undefined;
  const fields = new BigUint64Array(allocator.mallinfo2().buffer);
  return Number(fields[HBLKHD] + fields[UORDBLKS]);
}

let allocator: Allocator | false | undefined;

function openAllocator(): Allocator | false {
  try {
    return Deno.dlopen("libc.so.6", { mallinfo2: { parameters: [], result: MALLINFO } }).symbols as Allocator;
  } catch {
    return false; // musl, or a glibc before 2.33
  }
}
