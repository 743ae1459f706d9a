/** The process of a {@link HostLink}: a {@link LinkProxy} on the host where it was started. */
import { errorToRecord } from '../errors.js'
import type { HostLinkAnswer, HostLinkRequest } from './host-link.js'
import { LinkProxy } from './link-proxy.js'

let link: LinkProxy | undefined

async function act(request: HostLinkRequest): Promise<void> {
  if ('listen' in request) link = await LinkProxy.listen(request.listen, request.options)
  else if ('change' in request) await link?.change(request.change)
  else await link?.cut()
}

process.on('message', (request: HostLinkRequest) => {
  const answer = (rest: Partial<HostLinkAnswer>): void => {
    const { uri = '', cuts = 0 } = link ?? {}
    process.send?.({ id: request.id, uri, cuts, ...rest } satisfies HostLinkAnswer)
  }
  act(request).then(
    () => answer({}),
    (error: unknown) => answer({ error: errorToRecord(error) }),
  )
})
// The process that started this one has ended.
process.on('disconnect', () => process.exit())
