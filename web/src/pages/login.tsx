import { useState } from "preact/hooks";
import { ApiError, call } from "../api";
import { go, href } from "../router";
import { Failure } from "../ui/parts";

/** Exchanges the admin token for a session, and goes where one wanted to go. */
export function Login({ next }: { next: string }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const log = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await call("session", { method: "POST", body: { token: token.trim() } });
      // Only a path of this console is followed, never another site.
      const home = href("");
      const root = new URL(home, location.href).pathname;
      go(next.startsWith(root) && !next.startsWith("//") ? next : home, true);
    } catch (e) {
      const failed = e as ApiError;
      setError(failed.status === 401 ? new ApiError(401, "UNAUTHORIZED", "That is not the admin token. It is the line in the file that the server was started with (--admin-token-file).") : failed);
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (token.trim() && !busy) void log();
        }}
      >
        <h1>
          <span class="brand">RCCS</span> console
        </h1>
        <label>
          Admin token
          <input
            class="secret"
            type="text"
            name="token"
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            autofocus
            value={token}
            onInput={(e) => setToken(e.currentTarget.value)}
          />
        </label>
        <Failure error={error} />
        <button type="submit" class="primary" disabled={busy || !token.trim()}>
          Log in
        </button>
        <p class="faint">The token is kept by the server for 12 hours as a session of this browser; the page does not store it.</p>
      </form>
    </main>
  );
}
