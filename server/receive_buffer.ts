/** Bytes that may be buffered before we pause receiving. */
const AHEAD = 64 * 1024;

/** Buffers the bytes that a runtime pushes until they are read. */
export class ReceiveBuffer {
  readonly #flow: (on: boolean) => void;
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #paused = false;
  #wake = () => {};

  /** `flow`: resumes (true) or pauses (false) receiving. */
  constructor(flow: (on: boolean) => void) {
    this.#flow = flow;
  }

  push(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes > AHEAD && !this.#paused) this.#flow(!(this.#paused = true));
    this.#wake();
  }

  /** Records that no more bytes will come. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** As `read` of {@link Transport}. */
  async read(into: Uint8Array): Promise<number> {
    if (this.#bytes === 0 && !this.#ended) await new Promise<void>((resolve) => this.#wake = resolve);
    if (this.#bytes === 0) return 0;
    const [first] = this.#waiting;
    const bytes = first.subarray(0, into.length);
    into.set(bytes);
    if (bytes.length === first.length) this.#waiting.shift();
    else this.#waiting[0] = first.subarray(bytes.length);
    this.#bytes -= bytes.length;
    if (this.#bytes === 0 && this.#paused) this.#flow(!(this.#paused = false));
    return bytes.length;
  }
}
