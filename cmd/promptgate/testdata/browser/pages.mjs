// Every page of signing in, in each state: what axe finds, whether it fits, and its picture where input.pictures names a folder. See run.mjs.
import { mkdir } from 'node:fs/promises';

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();

const states = {
  'signin': ({ page, input }) => page.goto(input.site + '/signin'),
  'signin-wrong': async ({ page, input, expecting }) => {
    await page.goto(input.site + '/signin');
    await page.getByLabel('E-mail address').fill('nobody@people.example');
    await page.getByLabel('Password').fill('not this one at all');
    await expecting('401', () => press(page, 'Sign in'));
  },
  'forgot': ({ page, input }) => page.goto(input.site + '/signin/forgot'),
  'forgot-done': async ({ page }) => {
    await page.getByLabel('E-mail address').fill('nobody@people.example');
    await press(page, 'Send the link');
    await page.getByRole('status').waitFor();
  },
  'link-setup': ({ page, input }) => page.goto(input.links.setup),
  'link-invite': ({ page, input }) => page.goto(input.links.invite),
  'link-reset': ({ page, input }) => page.goto(input.links.reset),
  'link-signin': ({ page, input }) => page.goto(input.links.signin),
  'link-used': ({ page, input, expecting }) => expecting('404', () => page.goto(`${input.site}/signin/link/${'A'.repeat(43)}`)),
  'account-new': async ({ page, input }) => {
    await page.goto(input.links.signin);
    await press(page, 'Sign in');
    await page.waitForURL('**/account');
  },
  'account-password': async ({ page }) => {
    await page.getByLabel('New password').fill('vexing quartz gnomes');
    await press(page, 'Set password');
    await page.getByRole('status').waitFor();
  },
  'account': async ({ page, input, fresh, passkeys }) => {
    for (const [transport, name] of [['internal', 'My laptop'], ['usb', 'The security key with a long name that is in the drawer']]) {
      await passkeys(transport);
      await page.getByLabel('Name of the new passkey').fill(name);
      await press(page, 'Add a passkey');
      await page.getByText(name, { exact: true }).waitFor();
    }
    const other = await fresh();
    await other.goto(input.site + '/signin');
    await other.getByLabel('E-mail address').fill(await page.locator('.who').innerText());
    await other.getByLabel('Password').fill('vexing quartz gnomes');
    await press(other, 'Sign in');
    await other.waitForURL('**/account');
    await page.goto(input.site + '/account');
  },
  'account-wrong': async ({ page, expecting }) => {
    await page.getByLabel('Present password').fill('not this one at all');
    await page.getByLabel('New password').fill('another quartz gnome');
    await expecting('400', () => press(page, 'Change password'));
    await page.getByRole('alert').filter({ hasText: 'The present password is wrong' }).waitFor();
  },
};

// Returns {"state theme width": [finding…]}. input: {site, links: {setup, invite, reset, signin}, pictures}.
export async function all(b) {
  const found = {};
  const { page, input } = b;
  if (input.pictures) await mkdir(input.pictures, { recursive: true });
  for (const [state, reach] of Object.entries(states)) {
    await reach(b);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const width of [1440, 390]) {
        await page.setViewportSize({ width, height: 900 });
        const findings = await b.barriers();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        if (wide > width) findings.push(`the page is ${wide} pixels wide`);
        if (width === 390) {
          findings.push(...await page.evaluate(() => [...document.querySelectorAll('button, .wide-button, input:not([type=hidden])')]
            .filter((e) => e.offsetHeight > 0 && e.offsetHeight < 44).map((e) => `${e.offsetHeight} pixels high: ${e.outerHTML}`)));
        }
        found[`${state} ${colorScheme} ${width}`] = findings;
        if (input.pictures) await page.screenshot({ path: `${input.pictures}/${state}-${colorScheme}-${width}.png`, fullPage: true });
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1440, height: 900 });
  }
  return found;
}
