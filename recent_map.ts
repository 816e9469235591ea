/**
 * A map for what can be found out again: it remembers at least the `most` keys that were set last, and at most twice as
 * many. So what clients and callers make keys of takes no memory without bound, and there is no moment at which nothing
 * is remembered. `undefined` is no value.
 */
export class RecentMap<K, V> {
  readonly #most: number;
  #young = new Map<K, V>();
  /** Replaced as a whole: to delete the oldest key of one map, one by one, costs more than what most values spare. */
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
