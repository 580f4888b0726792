// Writes testdata/golden.json: what calcPrice of @pydantic/genai-prices answers for many models and token counts. The Go test
// compares its own arithmetic with these figures, and with what the installed package answers now.
//
//   node metrics/pricing/gen/golden.mjs <package directory> metrics/pricing/prices.json metrics/pricing/testdata/golden.json
//
// A vector: [provider, model, time, input, cached, write, audio in, output, reasoning, audio out, US dollars].
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'

const [, , pkgDir, pricesFile, out] = process.argv
if (!pkgDir || !pricesFile) {
  console.error('usage: node golden.mjs <package directory> <prices.json> [golden.json]')
  process.exit(2)
}
const { calcPrice } = createRequire(import.meta.url)(resolve(pkgDir, 'dist/index.cjs'))
console.warn = () => {}

let state = 42 // a small generator of our own: the same vectors each time
const random = (n) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * n)
}
const times = ['2024-03-01T03:00:00Z', '2025-03-15T17:00:00Z', '2025-07-01T01:00:00Z', '2026-03-01T12:00:00Z', '2026-11-20T23:59:59Z']
const sizes = [0, 1, 7, 1000, 4740, 127999, 128001, 200000, 200001, 272001, 1500000]

// A name that the model's own pattern accepts.
function sample(match, id) {
  if (match.or) return sample(match.or[random(match.or.length)], id)
  if (match.equals) return match.equals
  if (match.starts_with) return match.starts_with
  return id
}

const vectors = []
for (const p of JSON.parse(readFileSync(pricesFile, 'utf8')).providers) {
  for (const m of p.models) {
    if (!m.prices.length) continue
    for (let i = 0; i < 4; i++) {
      const input = sizes[random(sizes.length)]
      const output = sizes[random(sizes.length)]
      const cached = random(input + 1)
      const write = random(input - cached + 1)
      const audioIn = m.prices.some((x) => x.audio_input !== undefined) ? random(input - cached - write + 1) : 0
      const reasoning = random(output + 1)
      const audioOut = m.prices.some((x) => x.audio_output !== undefined) ? random(output - reasoning + 1) : 0
      const timestamp = new Date(times[random(times.length)])
      const model = sample(m.match, m.id)
      const usage = {
        input_tokens: input, cache_read_tokens: cached, cache_write_tokens: write, input_audio_tokens: audioIn,
        cache_audio_read_tokens: 0, cache_audio_write_tokens: 0, input_image_tokens: 0, cache_image_read_tokens: 0,
        output_tokens: output, output_reasoning_tokens: reasoning, output_audio_tokens: audioOut, output_audio_reasoning_tokens: 0,
      }
      let r
      try {
        r = calcPrice(usage, model, { providerId: p.id, timestamp })
      } catch {
        continue // a combination of counts that the package itself refuses for this model
      }
      // Output that a model has no price for is unpriced with us and free with them.
      if (r && !(output > 0 && r.model_price.output_mtok === undefined))
        vectors.push([p.id, model, timestamp.toISOString(), input, cached, write, audioIn, output, reasoning, audioOut, r.total_price])
    }
  }
}
const text = '[\n' + vectors.map((v) => JSON.stringify(v)).join(',\n') + '\n]\n'
if (out) writeFileSync(out, text)
else process.stdout.write(text)
