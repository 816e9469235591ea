/** Throws `TypeError` or `RangeError` if `fd` cannot be a descriptor number (a C int). Makes no system call. */
export function checkDescriptor(fd: number): void {
  if (!Number.isInteger(fd)) throw new TypeError(`a descriptor must be an integer, not ${String(fd)}`);
  if (fd < 0 || fd > 0x7fffffff) throw new RangeError(`${fd} is not a descriptor`);
}
