// Passkeys need a script: everything else on these pages works without.
"use strict";
(() => {
  const able = window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON && PublicKeyCredential.parseCreationOptionsFromJSON;
  if (!able) return;
  const ways = {
    "sign-in": { at: "/signin/passkey", ask: (o) => navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(o) }) },
    register: { at: "/account/passkeys", ask: (o) => navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(o) }) },
  };
  const tell = (text) => {
    const box = document.getElementById("passkey-error");
    box.textContent = text;
    box.hidden = !text;
  };
  const send = async (path, body) => {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin" });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error || "Something failed: try again.");
    return said;
  };
  for (const shown of document.querySelectorAll("[data-passkey]")) {
    shown.hidden = false;
    const way = ways[shown.dataset.passkey];
    if (!way) continue;
    shown.addEventListener("click", async () => {
      tell("");
      shown.disabled = true;
      try {
        const asked = await send(way.at + "/begin", {});
        const made = await way.ask(asked.publicKey);
        const name = document.getElementById("passkey-name");
        const done = await send(way.at + "/finish", { name: name ? name.value : "", credential: made.toJSON() });
        location.assign(done.next);
      } catch (e) {
        const cancelled = e.name === "NotAllowedError" || e.name === "AbortError";
        const here = e.name === "SecurityError" ? "Passkeys work only at the address that this gateway is set up for: look at console.url." : e.message;
        tell(e.name === "InvalidStateError" ? "This passkey is registered already." : cancelled ? "Nothing was done: the passkey was not confirmed." : here);
        shown.disabled = false;
      }
    });
  }
})();
