import { connect, createServer, type Server, type Socket } from 'node:net'

/** A door before a Postgres that can be shut: connections through it end, and new ones are refused. */
export interface Gate {
  url: string
  shut(): Promise<void>
  open(): Promise<void>
  close(): Promise<void>
}

export async function openGate(databaseUrl: string): Promise<Gate> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  const server: Server = createServer((inner) => {
    const outer = connect(Number(target.port), target.hostname)
    for (const socket of [inner, outer]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        inner.destroy()
        outer.destroy()
      })
    }
    inner.pipe(outer).pipe(inner)
  })
  const listen = (port: number) => new Promise<void>((done) => server.listen(port, '127.0.0.1', done))
  await listen(0)
  const { port } = server.address() as { port: number }
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${port}`
  const shut = async () => {
    if (!server.listening) return
    const closed = new Promise((done) => server.close(done))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  const open = async () => {
    if (!server.listening) await listen(port)
  }
  return { url: url.href, shut, open, close: shut }
}
