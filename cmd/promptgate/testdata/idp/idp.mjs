// A real identity provider (oidc-provider) for the tests, on a free port of loopback. Prints one JSON line when it listens. POST /control changes what it
// is: whom it knows, its keys, its clock, what it breaks in its tokens, and whether it answers at all.
import { createServer } from 'node:http';
import { createHmac, generateKeyPairSync, randomUUID } from 'node:crypto';
import { json } from 'node:stream/consumers';

// From the folder that the test's set-up installed them in.
const { Provider } = await import(process.env.IDP_ROOT + '/node_modules/oidc-provider/lib/index.js');
const { SignJWT, importJWK } = await import(process.env.IDP_ROOT + '/node_modules/jose/dist/webapi/index.js');
const settings = JSON.parse(process.env.IDP);

const server = createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const issuer = `http://localhost:${server.address().port}`;

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256', use: 'sig' };
}

const state = { people: {}, keys: [newKey()], break: '', mode: '', codes: [] };
const foreign = newKey();
let provider;

// broken makes of a good ID token what a test wants to see refused.
async function broken(token) {
  const [head, body] = token.split('.').slice(0, 2).map((p) => JSON.parse(Buffer.from(p, 'base64url')));
  const now = Math.floor(Date.now() / 1000);
  let key = state.keys[0];
  switch (state.break) {
    case 'aud': body.aud = 'another'; break;
    case 'azp': body.aud = ['promptgate', 'another']; break;
    case 'iss': body.iss = 'https://evil.example.com'; break;
    case 'nonce': body.nonce = 'another'; break;
    case 'no nonce': delete body.nonce; break;
    case 'no sub': delete body.sub; break;
    case 'expired': body.iat = now - 7200; body.exp = now - 3600; break;
    case 'clock -50s': body.iat = now - 110; body.exp = now - 50; break; // good: within what clocks may be off
    case 'clock +50s': body.iat = now + 50; body.exp = now + 3650; break; // good, too
    case 'clock +120s': body.iat = now + 120; body.exp = now + 3720; break;
    case 'at_hash': body.at_hash = 'AAAAAAAAAAAAAAAAAAAAAA'; break;
    case 'unknown kid': key = foreign; head.kid = foreign.kid; break;
    case 'foreign key': key = foreign; break; // under the id of a key that is known
    case 'signature': return token.slice(0, -8) + (token.endsWith('AAAAAAAA') ? 'BBBBBBBB' : 'AAAAAAAA');
    case 'none': return [{ alg: 'none' }, body].map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.') + '.';
    case 'HS256': { // signed with the public key as if it were a secret
      const { n, e, kty } = key;
      const signed = [{ alg: 'HS256', kid: head.kid }, body].map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.');
      return `${signed}.${createHmac('sha256', JSON.stringify({ e, kty, n })).update(signed).digest('base64url')}`;
    }
  }
  return new SignJWT(body).setProtectedHeader({ alg: 'RS256', kid: head.kid, typ: head.typ }).sign(await importJWK(key, 'RS256'));
}

function begin() {
  provider = new Provider(issuer, {
    clients: [{
      client_id: 'promptgate', client_secret: settings.secret, redirect_uris: [settings.redirect], response_types: ['code'], grant_types: ['authorization_code'],
      backchannel_logout_uri: settings.logout, backchannel_logout_session_required: true,
    }],
    findAccount: (ctx, id) => {
      const person = state.people[id];
      return person && { accountId: id, claims: () => ({ sub: id, ...person }) };
    },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    conformIdTokenClaims: false,
    features: { backchannelLogout: { enabled: true } },
    jwks: { keys: state.keys },
    cookies: { keys: ['a key for cookies of a test'] },
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options), // which also goes to this machine
    pkce: { required: () => true },
    ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  });
  provider.on('backchannel.error', (ctx, err) => console.error('back-channel logout:', err));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === '/token' && ctx.body?.id_token && state.break) ctx.body.id_token = await broken(ctx.body.id_token);
    if (ctx.path === '/token' && ctx.body?.id_token) state.said = { id: ctx.body.id_token, access: ctx.body.access_token, body: ctx.body };
  });
}
begin();

async function control(req, res) {
  const asked = await json(req);
  if (asked.rotate) {
    state.keys = [newKey()];
    begin();
  }
  for (const name of ['people', 'break', 'mode', 'to']) if (name in asked) state[name] = asked[name];
  let out = {};
  if (asked.logout) { // a logout token, as the provider would send it, or nearly
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: issuer, aud: 'promptgate', iat: now, exp: now + 120, jti: randomUUID(), events: { 'http://schemas.openid.net/event/backchannel-logout': {} }, ...asked.logout,
    };
    for (const name in claims) if (claims[name] === null) delete claims[name];
    const key = asked.foreign ? foreign : state.keys[0];
    out.token = await new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'logout+jwt' }).sign(await importJWK(key, 'RS256'));
  }
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(out));
}

server.on('request', (req, res) => {
  if (req.url === '/control') return control(req, res);
  switch (state.mode) {
    case 'down': return req.socket.destroy();
    case 'slow': return; // never an answer
    case 'huge':
      if (req.url.includes('openid-configuration')) return res.end(JSON.stringify({ issuer, padding: 'x'.repeat(10 << 20) }));
      break;
    case 'replay':
      if (req.url === '/token') return res.setHeader('content-type', 'application/json').end(JSON.stringify(state.said.body));
      break;
    case 'redirect':
      if (req.url.includes('openid-configuration')) return res.writeHead(302, { location: state.to }).end();
  }
  return provider.callback()(req, res);
});
process.stdin.resume().on('end', () => process.exit(0)); // it ends with the test
console.log(JSON.stringify({ issuer }));
