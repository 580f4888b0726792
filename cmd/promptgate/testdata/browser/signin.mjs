// How people get in, as they do it. See run.mjs for what a flow is given.
import assert from 'node:assert/strict';

const at = (page) => new URL(page.url()).pathname;
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const password = 'vexing quartz gnomes';

async function signOut(page) {
  await press(page, 'Sign out');
  await page.waitForURL('**/signin');
}

async function byPassword(page, email, secret) {
  await page.getByLabel('E-mail address').fill(email);
  await page.getByLabel('Password').fill(secret);
  await press(page, 'Sign in');
}

async function setPassword(page, secret) {
  await page.getByLabel('New password').fill(secret);
  await press(page, 'Set password');
  await page.getByRole('status').filter({ hasText: 'Your password is set' }).waitFor();
}

// From the link on the terminal to an account with a password; input: {link}.
export async function setUp({ page, input, fresh, expecting }) {
  await page.goto(input.link);
  assert.equal(at(page), '/signin/link', 'the token is out of the address');
  await page.getByLabel('Your e-mail address').fill('ana@people.example');
  await page.getByLabel('Your name').fill('Ana');
  await press(page, 'Make my account');
  await page.waitForURL('**/account');
  await page.getByText('You have no way to sign in again yet').waitFor();
  await page.getByText('Operator', { exact: true }).waitFor();
  await setPassword(page, password);
  await signOut(page);
  await page.goto(input.site + '/account');
  assert.equal(at(page), '/signin', 'signed out');
  await expecting('401', () => byPassword(page, 'ana@people.example', 'not this one at all'));
  await page.getByRole('alert').filter({ hasText: 'The e-mail address or the password is wrong.' }).waitFor();
  await page.getByLabel('Password').fill(password);
  await press(page, 'Sign in');
  await page.waitForURL('**/account');
  const cookies = await page.context().cookies();
  const other = await fresh();
  await expecting('404', () => other.goto(input.link));
  await other.getByText('This link was used already').waitFor();
  return cookies.map((c) => ({ name: c.name, httpOnly: c.httpOnly, sameSite: c.sameSite, secure: c.secure }));
}

// The link of `serve --demo`; input: {link}.
export async function demo({ page, input, fresh, expecting }) {
  await page.goto(input.link);
  await press(page, 'Sign in');
  await page.waitForURL('**/account');
  await page.getByText('demo', { exact: true }).waitFor();
  const other = await fresh();
  await expecting('404', () => other.goto(input.link));
  await other.getByText('This link was used already').waitFor();
}

async function byLink(page, link) {
  await page.goto(link);
  await page.getByRole('main').getByRole('button').click();
  await page.waitForURL('**/account');
}

async function addPasskey(page, name) {
  await page.getByLabel('Name of the new passkey').fill(name);
  await press(page, 'Add a passkey');
  await page.getByRole('status').filter({ hasText: 'The passkey was added' }).waitFor();
}

async function byPasskey(page) {
  await press(page, 'Sign in with a passkey');
  await page.waitForURL('**/account');
}

async function refusedPasskey(page, expecting) {
  await expecting('401', async () => {
    await press(page, 'Sign in with a passkey');
    await page.getByRole('alert').filter({ hasText: 'This passkey is not known here' }).waitFor();
  });
  assert.equal(at(page), '/signin');
}

const credentialOf = async ({ client, id }) => (await client.send('WebAuthn.getCredentials', { authenticatorId: id })).credentials[0];

// puts the passkey back with another count of its uses
async function counting(keys, held, signCount) {
  await keys.client.send('WebAuthn.removeCredential', { authenticatorId: keys.id, credentialId: held.credentialId });
  await keys.client.send('WebAuthn.addCredential', { authenticatorId: keys.id, credential: { ...held, signCount } });
}

// A passkey is added, signs in, and stays while it is the only way; input: {link}.
export async function passkey({ page, input, passkeys, expecting }) {
  await passkeys();
  await byLink(page, input.link);
  await addPasskey(page, 'My laptop');
  await page.getByText('You have no way to sign in again yet').waitFor({ state: 'hidden' });
  await signOut(page);
  await byPasskey(page);
  await page.getByText('by passkey').waitFor();
  await expecting('409', async () => {
    await press(page, 'Remove My laptop');
    await page.getByRole('alert').filter({ hasText: 'This is your only way to sign in' }).waitFor();
  });
  await page.goto(input.site + '/account');
  await page.getByText('My laptop', { exact: true }).waitFor();
  await setPassword(page, password);
  await press(page, 'Remove My laptop');
  await page.getByRole('status').filter({ hasText: 'The passkey was removed' }).waitFor();
  await signOut(page);
  await refusedPasskey(page, expecting);
}

// Somebody copied a passkey and uses the copy: its count lies behind that of the original; input: {link}.
export async function clone({ page, input, passkeys, expecting }) {
  const keys = await passkeys();
  await byLink(page, input.link);
  await addPasskey(page, 'Copied');
  for (let i = 0; i < 2; i++) {
    await signOut(page);
    await byPasskey(page);
  }
  await signOut(page);
  const held = await credentialOf(keys);
  await counting(keys, held, held.signCount - 2);
  await refusedPasskey(page, expecting);
  await counting(keys, held, held.signCount + 5);
  await byPasskey(page);
}

// Somebody has seen what a browser sent to sign in, and sends it again; input: {link, site}.
export async function replay({ page, input, fresh, passkeys }) {
  await passkeys();
  await byLink(page, input.link);
  await addPasskey(page, 'Seen');
  await signOut(page);
  let sent;
  await page.route('**/signin/passkey/finish', async (route) => {
    sent = { answer: route.request().postData(), cookies: await page.context().cookies() };
    await route.continue();
  });
  await byPasskey(page);
  const thief = await fresh();
  const again = (cookies) => thief.context().addCookies(cookies).then(() =>
    thief.request.post(input.site + '/signin/passkey/finish', { data: sent.answer, headers: { 'Content-Type': 'application/json' } }));
  const ceremony = sent.cookies.filter((c) => c.name.endsWith('-ceremony'));
  assert.equal(ceremony.length, 1);
  const first = await again(ceremony);
  assert.equal(first.status(), 401, await first.text());
  // With a challenge of its own, the answer is to another one.
  await thief.request.post(input.site + '/signin/passkey/begin', { data: {} });
  const second = await again([]);
  assert.equal(second.status(), 401, await second.text());
  assert.equal((await thief.context().cookies()).some((c) => c.name === 'promptgate'), false);
}

const focused = (page) => page.evaluate(() => {
  const e = document.activeElement;
  const shown = getComputedStyle(e);
  return { name: e.name || e.textContent.trim(), ring: shown.outlineStyle !== 'none' && parseFloat(shown.outlineWidth) >= 2 };
});

async function tabTo(page, name) {
  for (let i = 0; i < 30; i++) {
    const here = await focused(page);
    assert.ok(here.ring || here.name === '' || i === 0, `the focus shows on ${here.name}`);
    if (here.name === name) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`the keyboard does not come to ${name}`);
}

// No mouse: a password, then a passkey; input: {link}, of an account.
export async function keyboard({ page, input, passkeys }) {
  await passkeys();
  await page.goto(input.link);
  await tabTo(page, 'Sign in');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/account');
  const email = await page.locator('.who').innerText();
  await tabTo(page, 'next');
  await page.keyboard.type(password);
  await page.keyboard.press('Enter');
  await page.getByRole('status').waitFor();
  await tabTo(page, 'Add a passkey');
  await page.keyboard.press('Enter');
  await page.getByRole('status').filter({ hasText: 'The passkey was added' }).waitFor();
  await tabTo(page, 'Sign out');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/signin');
  assert.equal((await focused(page)).name, 'email', 'the first field has the focus');
  await page.keyboard.type(email);
  await page.keyboard.press('Tab');
  await page.keyboard.type(password);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/account');
  await tabTo(page, 'Sign out');
  await page.keyboard.press('Space');
  await page.waitForURL('**/signin');
  await tabTo(page, 'Sign in with a passkey');
  await page.keyboard.press('Space');
  await page.waitForURL('**/account');
}
