/** Throws `TypeError` or `RangeError` for what cannot be a descriptor's number, a C int; makes no system call. */
export function checkDescriptor(fd: number): void {
  if (!Number.isInteger(fd)) throw new TypeError(`a descriptor must be an integer, not ${String(fd)}`);
  if (fd < 0 || fd > 0x7fffffff) throw new RangeError(`${fd} is not a descriptor`);
}
