// Writes prices.json from the npm package @pydantic/genai-prices (MIT licence, see ../NOTICE).
//
//   make tools      # installs the version that package-lock.json beside this file pins
//   node metrics/pricing/gen/export.mjs .cache/genai-prices/node_modules/@pydantic/genai-prices metrics/pricing/prices.json
//
// Kept: providers below, models that are paid by the token, prices by date and time of day, tiers by size of the input.
// Dropped: models paid by the request, the hour, the page or the image, since the ledger does not count those: they are
// unpriced, which is counted, instead of priced wrongly. Fees of tools (web search) are not part of any price here.
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'

const [, , pkgDir, out] = process.argv
if (!pkgDir || !out) {
  console.error('usage: node export.mjs <package directory> <prices.json>')
  process.exit(2)
}
const { findProvider } = createRequire(import.meta.url)(resolve(pkgDir, 'dist/index.cjs'))
const version = JSON.parse(readFileSync(join(pkgDir, 'package.json'), 'utf8')).version

// Our names of providers, beside the package's own id.
const providers = {
  openai: [], anthropic: [], google: ['gemini', 'vertex', 'google-vertex'], mistral: [], deepseek: [], groq: [], cohere: [],
  azure: ['azure-openai'], aws: ['bedrock', 'aws-bedrock'], 'x-ai': ['xai'], together: ['together-ai'], fireworks: [],
  cerebras: [], moonshotai: [],
}

// Theirs to ours. A cached or one-hour price that we have no count for is left out: its tokens are counted by their parent kind.
const keys = {
  input_mtok: 'input', cache_read_mtok: 'cached_input', cache_write_mtok: 'cache_write', input_audio_mtok: 'audio_input',
  output_mtok: 'output', output_reasoning_mtok: 'reasoning', output_audio_mtok: 'audio_output',
}
const otherUnits = /_(kcount|hours|kpages|gpixels|mchars)$/
const toolFees = /searches_kcount$|executions_kcount$/

// Go's regular expressions know no lookahead: ^(?!x) becomes not ^x, any other one stops the export.
function portable(match) {
  if (match.or) return { or: match.or.map(portable) }
  if (match.and) return { and: match.and.map(portable) }
  if (!match.regex?.includes('(?')) return match
  const negated = /^\^\(\?!(.*)\)$/.exec(match.regex)
  if (!negated || /\(\?[=!<]/.test(negated[1])) throw new Error(`cannot translate ${match.regex}`)
  return { not: { regex: '^' + negated[1] } }
}

function price(value) {
  if (typeof value === 'number') return value
  return { base: value.base, tiers: value.tiers.map((t) => ({ above: t.start, price: t.price })) }
}

function entry({ constraint, prices }) {
  const e = {}
  if (constraint?.type === 'start_date') e.from = constraint.start_date
  if (constraint?.type === 'time_of_date') e.daily = [constraint.start_time, constraint.end_time]
  for (const [theirs, ours] of Object.entries(keys)) if (prices[theirs] !== undefined) e[ours] = price(prices[theirs])
  return e
}

const paidByToken = (list) =>
  list.every(({ prices }) => Object.keys(prices).every((k) => !otherUnits.test(k) || toolFees.test(k)) && prices.input_mtok !== undefined)

const table = { source: 'npm @pydantic/genai-prices', version, license: 'MIT, see NOTICE', unit: 'USD per million tokens', providers: [] }
for (const [id, names] of Object.entries(providers)) {
  const p = findProvider({ providerId: id })
  if (!p) throw new Error(`provider ${id} is not in the package`)
  const models = []
  for (const m of p.models) {
    const list = Array.isArray(m.prices) ? m.prices : [{ prices: m.prices }]
    if (paidByToken(list)) models.push({ id: m.id, match: portable(m.match), prices: list.map(entry) })
    else models.push({ id: m.id, match: portable(m.match), prices: [] }) // keeps a broader pattern further down from pricing it
  }
  const fallback = (p.fallback_model_providers ?? []).filter((f) => f in providers)
  table.providers.push({ id: p.id, names, fallback: fallback.length ? fallback : undefined, models })
}

const lines = table.providers.map(
  (p) => JSON.stringify({ ...p, models: undefined }).slice(0, -1) + ',"models":[\n' + p.models.map((m) => '  ' + JSON.stringify(m)).join(',\n') + '\n ]}',
)
const head = JSON.stringify({ ...table, providers: undefined }, null, 1).replace(/\n}$/, '')
writeFileSync(out, head + ',\n "providers": [\n ' + lines.join(',\n ') + '\n]}\n')
