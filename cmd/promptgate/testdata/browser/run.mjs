// Runs one flow in Chromium: `node run.mjs FILE FLOW`, where FILE.mjs beside this exports FLOW. What the flow is given stands on standard input as JSON; what
// it returns is printed as JSON, with all that the browser's console and the pages' content security policy complained of.
//
// A flow is `async (b) => anything`; b has:
//   input       what the test gave
//   page        a page of a new browser context; b.browser makes others (b.fresh())
//   fresh()     another browser, as of somebody else: a page that shares no cookie with the first
//   passkeys()  gives the page an authenticator with resident keys and user verification, 'usb' for one beside that of the machine; returns {client, id}
//   barriers()  what axe finds in the page
//   expecting(what, do)  does something that ends in an error in the console, which has to hold `what`
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

// Resolved from the folder that the tests' set-up installed them in.
const installed = createRequire(process.env.BROWSER_ROOT + '/');
const { chromium } = installed('playwright-core');

const [, , file, flow] = process.argv;
const input = JSON.parse(await text(process.stdin));
const complaints = [];
let expected = null;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM });

function complain(what) {
  if (expected?.some((e) => what.includes(e))) return;
  complaints.push(what);
}

async function fresh() {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-GB' });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  await page.exposeBinding('promptgateRefused', (_, what) => complain(what));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => promptgateRefused(`policy: ${e.violatedDirective} ${e.blockedURI} on ${e.documentURI}`));
  });
  page.on('console', (m) => {
    if (m.type() === 'error' || m.type() === 'warning') complain(`console: ${m.text()} (${m.location().url}) on ${page.url()}`);
  });
  page.on('pageerror', (e) => complain(`script: ${e.message} on ${page.url()}`));
  return page;
}

const page = await fresh();
const b = {
  input,
  page,
  fresh,
  async passkeys(transport = 'internal', of = page) {
    const client = await of.context().newCDPSession(of);
    await client.send('WebAuthn.enable');
    const { authenticatorId: id } = await client.send('WebAuthn.addVirtualAuthenticator', {
      options: { protocol: 'ctap2', transport, hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
    });
    return { client, id };
  },
  async barriers(of = page) {
    await of.evaluate(await readFile(installed.resolve('axe-core'), 'utf8'));
    const found = await of.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    assert.ok(found.passes.length > 10, 'axe looked at the page');
    return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html}: ${n.failureSummary}`));
  },
  async expecting(what, act) {
    expected = [what].flat();
    try {
      return await act();
    } finally {
      await page.waitForTimeout(50); // the console is told later
      expected = null;
    }
  },
};

try {
  const result = await (await import(`./${file}.mjs`))[flow](b);
  await page.waitForTimeout(100);
  console.log(JSON.stringify({ result: result ?? null, complaints }));
} catch (e) {
  const seen = await page.locator('body').innerText().catch(() => '');
  console.error(`${e.stack}\n\nat ${page.url()}:\n${seen}\n\n${complaints.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
