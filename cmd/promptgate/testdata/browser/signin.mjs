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
