// How people get in through an identity provider, as they do it. See run.mjs for what a flow is given.
import assert from 'node:assert/strict';

const at = (page) => new URL(page.url()).pathname;

// The provider's pages are npm's oidc-provider's own; they want a font from elsewhere, which no test has.
async function through(page, { site, login }) {
  await page.context().route((url) => !['localhost', '127.0.0.1'].includes(url.hostname), (route) => route.fulfill({ contentType: 'text/css', body: '' }));
  await page.goto(site + '/signin');
  await page.getByRole('link', { name: 'Sign in with Okta' }).click();
  await page.locator('input[name=login]').fill(login);
  await page.locator('input[name=password]').fill('anything');
  await page.locator('button[type=submit]').click();
  await page.locator('button[type=submit]').click(); // yes, this application may know who it is
  await page.waitForURL(site + '/**');
}

// From the button to the account page and, from another browser, without what the first one left with; input: {site, login}.
export async function comesIn({ page, input, fresh, barriers, expecting }) {
  const callbacks = [];
  page.on('request', (r) => { if (r.url().startsWith(input.site + '/signin/sso/callback')) callbacks.push(r.url()); });
  await page.goto(input.site + '/signin');
  assert.deepEqual(await barriers(), []);
  await through(page, input);
  assert.equal(at(page), '/account');
  assert.equal(new URL(page.url()).search, '', 'neither code nor state stays in the address');
  await page.getByText('single sign-on').first().waitFor();
  await page.goto(input.site + '/signin');
  assert.equal(at(page), '/account', 'who is signed in is led on');
  assert.equal(callbacks.length, 1);
  const cookies = await page.context().cookies(input.site);
  const other = await fresh();
  await expecting('403', () => other.goto(callbacks[0]));
  await other.getByText('Your browser did not bring back what it left with').waitFor();
  assert.equal(at(other), '/signin/sso/callback');
  await other.getByLabel('Password').waitFor();
  assert.deepEqual(await barriers(other), []);
  return cookies.filter((c) => c.name.startsWith('promptgate')).map((c) => ({ name: c.name, httpOnly: c.httpOnly, sameSite: c.sameSite }));
}

// The provider's word is not taken; input: {site, login, says}.
export async function refused({ page, input, expecting }) {
  await expecting('403', () => through(page, input));
  await page.getByRole('alert').filter({ hasText: input.says }).waitFor();
  assert.deepEqual((await page.context().cookies(input.site)).filter((c) => c.name === 'promptgate'), []);
}
