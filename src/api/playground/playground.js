/* GraphiQL with queries over HTTP and subscriptions over a websocket, both with the token of the Headers tab. */
;(() => {
  const { React, ReactDOM, GraphiQL, graphqlWs } = window
  const url = new URL('/graphql', window.location.href)
  const socket = new URL(url)
  socket.protocol = url.protocol.replace('http', 'ws')
  let headers = {}

  // Lazy: every first subscription opens a socket of its own, with the headers as they are then.
  const wsClient = graphqlWs.createClient({ url: socket.href, connectionParams: () => headers, retryAttempts: 3 })
  const fetcher = GraphiQL.createFetcher({ url: url.href, wsClient })
  const send = (parameters, options) => {
    headers = options?.headers ?? {}
    return fetcher(parameters, options)
  }

  /* The newest run stands in for 'the id of a run'; where there is none, or a token is needed, the words stay. */
  async function newestRun() {
    try {
      const body = JSON.stringify({ query: '{ runs(first: 1) { nodes { id } } }' })
      const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      return (await response.json()).data?.runs.nodes[0]?.id
    } catch {
      return undefined
    }
  }

  async function open() {
    const id = await newestRun()
    const defaultTabs = window.gestaltExamples.map(({ query, variables }) => {
      const filled = variables?.id && id ? { ...variables, id } : variables
      return { query, ...(filled ? { variables: JSON.stringify(filled, null, 2) } : {}) }
    })
    const root = ReactDOM.createRoot(document.getElementById('playground'))
    root.render(
      React.createElement(GraphiQL, { fetcher: send, defaultTabs, defaultEditorToolsVisibility: 'variables' }),
    )
  }

  open()
})()
