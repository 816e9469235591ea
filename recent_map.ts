/**
 * A cache for values that can be computed again. It holds at least the `most` keys that were set last, and at most
 * twice as many, so that keys chosen by clients cannot fill the memory, and it is never emptied at once. `undefined`
 * cannot be a value.
 */
export class RecentMap<K, V> {
  readonly #most: number;
  #young = new Map<K, V>();
  /**
   * The older generation, which is dropped as a whole: deleting the oldest keys of a single map one by one costs more
   * than most values save.
   */
  #old = new Map<K, V>();

  constructor(most: number) {
    this.#most = most;
  }

  get(key: K): V | undefined {
    return this.#young.get(key) ?? this.#old.get(key);
  }

  set(key: K, value: V): void {
    if (this.#young.size >= this.#most) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }
}
