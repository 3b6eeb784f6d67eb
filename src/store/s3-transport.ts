import http from 'node:http'
import https from 'node:https'
import { Refusal, Silence } from './s3-faults.ts'

/** Answers with these say that the next one may be another. */
const mayPass = new Set([408, 425, 429, 499, 500, 502, 503, 504, 520])
/** Bytes of an answer that are read for what it says. */
const longestAnswer = 65_536

function textIn(body: string, tag: string): string {
  return new RegExp(`<${tag}>([^<]*)</${tag}>`).exec(body)?.[1]?.trim() ?? ''
}

function refusal(status: number, body: string): Refusal {
  const code = textIn(body, 'Code')
  const said = [code, textIn(body, 'Message')].filter(Boolean).join(': ')
  return new Refusal(status, code, `it answers ${status}${said ? ` (${said})` : ''}`)
}

/** Reads what a refusal says, and ends the request with it. */
function refuse(request: http.ClientRequest, response: http.IncomingMessage): void {
  let body = ''
  const end = () => request.emit('error', refusal(response.statusCode!, body))
  response.setEncoding('utf8')
  response.on('data', (text: string) => {
    if (body.length < longestAnswer) body += text
  })
  response.once('end', end)
  response.once('error', end)
}

/**
 * Sends the requests of the S3 package: a connection on which nothing moves for so long is given up, and a refusal that
 * may pass becomes an error that says what the server said, so that whoever asked decides whether to ask again.
 */
export function openTransport(useSSL: boolean, silenceSeconds: number) {
  const { request, Agent } = useSSL ? https : http
  const agent = new Agent({ keepAlive: true, scheduling: 'lifo' })
  function send(options: http.RequestOptions, answer: (response: http.IncomingMessage) => void): http.ClientRequest {
    const sent = request(options, (response) => {
      if (mayPass.has(response.statusCode!)) refuse(sent, response)
      else answer(response)
    })
    sent.setTimeout(silenceSeconds * 1000, () => sent.destroy(new Silence(silenceSeconds)))
    return sent
  }
  return { agent, transport: { request: send as typeof http.request } }
}
