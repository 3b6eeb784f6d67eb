/**
 * Gathers the keys that are asked for in one turn of the event loop and loads them at once: the fields of fifty runs
 * are one statement. Nothing is remembered, so one batch serves every request, query, mutation and subscription of
 * the process. (The loaders of mercurius do not work in queries over a websocket.)
 */
export function batch<Key, Options, Value>(
  load: (keys: Key[], options: Options) => Promise<ReadonlyMap<Key, Value>>,
  most = 500,
): (key: Key, options: Options) => Promise<Value | undefined> {
  const waiting = new Map<string, { keys: Set<Key>; loaded: Promise<ReadonlyMap<Key, Value>> }>()
  return async (key, options) => {
    const kind = JSON.stringify(options)
    let group = waiting.get(kind)
    if (!group || group.keys.size >= most) {
      const keys = new Set<Key>()
      const loaded = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
        if (waiting.get(kind)?.keys === keys) waiting.delete(kind)
        return load([...keys], options)
      })
      group = { keys, loaded }
      waiting.set(kind, group)
    }
    group.keys.add(key)
    return (await group.loaded).get(key)
  }
}
