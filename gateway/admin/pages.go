package admin

import "net/http"

// pages adds the pages on which people sign in to the document: they are no API, but who looks after a gateway wants to know every address of it.
func (a *API) pages() {
	if a.browsers == nil {
		return
	}
	html := answerOf("The page", "text/html")
	on := func(id, method, path, summary, about string) {
		a.describe(endpoint{id: id, method: method, path: path, tag: "pages", summary: summary, about: about, open: true, answer: html})
	}
	const session = "Without a session it leads to /signin. No other site's page can send to it."
	on("sign-in-page", http.MethodGet, "/signin", "The page to sign in on", "")
	on("sign-in", http.MethodPost, "/signin", "Sign in by e-mail address and password", "A form: email, password. No other site's page can send to it.")
	on("forgot-page", http.MethodGet, "/signin/forgot", "The page to ask for a way back in on", "Not found where no e-mail is sent.")
	on("forgot", http.MethodPost, "/signin/forgot", "Ask for a link by e-mail", "A form: email. The answer is the same whether somebody has that address here or not. Not found where no e-mail is sent.")
	on("open-link", http.MethodGet, "/signin/link/{token}", "Open a one-time link", "Moves its token out of the address and uses nothing up.")
	on("link-page", http.MethodGet, "/signin/link", "What a one-time link is for", "")
	on("use-link", http.MethodPost, "/signin/link", "Use a one-time link", "Once. A set-up link takes a form: email, name.")
	on("begin-passkey", http.MethodPost, "/signin/passkey/begin", "A challenge for a passkey", "")
	on("sign-in-by-passkey", http.MethodPost, "/signin/passkey/finish", "Sign in by a passkey", "")
	on("leave-to-provider", http.MethodGet, "/signin/sso/{provider}", "Go to an identity provider to sign in", "Redirects there, with a state, a nonce and PKCE.")
	on("return-from-provider", http.MethodGet, "/signin/sso/callback", "Come back from an identity provider", "The redirect URI that identity providers have to know.")
	on("provider-logout", http.MethodPost, "/signin/sso/logout", "Sign somebody out who signed out at the identity provider",
		"OpenID Connect Back-Channel Logout: a form with a logout_token, which is taken once. 503 has the provider try again.")
	on("sign-in-asset", http.MethodGet, "/signin/assets/{file}", "The pages' style and script", "")
	on("account-page", http.MethodGet, "/account", "Who is signed in, where, and how", session)
	on("set-password", http.MethodPost, "/account/password", "Set or change the password", session)
	on("begin-new-passkey", http.MethodPost, "/account/passkeys/begin", "A challenge for a new passkey", session)
	on("add-passkey", http.MethodPost, "/account/passkeys/finish", "Add a passkey", session)
	on("remove-passkey", http.MethodPost, "/account/passkeys/remove", "Remove a passkey", session)
	on("sign-out-other", http.MethodPost, "/account/sessions/end", "Sign another browser out", session)
	on("sign-out", http.MethodPost, "/account/sign-out", "Sign this browser out", session)
	on("sign-out-all", http.MethodPost, "/account/sign-out-everywhere", "Sign all browsers out", session)
}
