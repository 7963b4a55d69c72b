// What a registration is signed with, and where the next one comes from.
import { claimsOf, fromBase64, seedBytes, toBase64url } from "./nkeys.js";
import { RccsError, type Credentials, type Options } from "./types.js";
import { isFinal, text, toError, utf8 } from "./wire.js";

/** The members of a registration that say who the device is. */
export interface Proof {
  authToken: string;
  sig?: string;
}

export interface Auth {
  /** Has a credential at hand: the newest, or with `fresh` another one. May take as long as the application's server does. */
  load(fresh: boolean): Promise<void>;
  /** Signs a nonce with what load left. */
  prove(nonce: string): Promise<Proof>;
  /** Reports whether there can be another credential than the one that was refused. */
  readonly renewable: boolean;
}

export function authOf(url: string, o: Options): Auth {
  const { token, credentials } = o as any;
  if (credentials) return credentialsAuth(url, o as WithCredentials);
  const renewable = typeof token === "function";
  let last = renewable ? "" : tokenOf(token);
  return {
    renewable,
    async load(fresh) {
      if (renewable && (!last || fresh || ended(last))) last = tokenOf(await token());
    },
    prove: async () => ({ authToken: last }),
  };
}

/** Throws where there is no token. An application's server that has none now may have one soon, and is asked again. */
function tokenOf(given: any): string {
  const token = given?.trim?.();
  if (!token) throw new RccsError("AUTH_REQUIRED", "pass options.token or options.credentials");
  return token;
}

/** Reports whether a JWT has less than ten seconds to go. */
const ended = (jwt: string): boolean => claimsOf(jwt).exp * 1000 < Date.now() + 10_000;

type WithCredentials = Extract<Options, { credentials: unknown }>;

function credentialsAuth(url: string, o: WithCredentials): Auth {
  let { jwt, key } = parseCreds(o.credentials);
  let signer: Promise<CryptoKey> | undefined;
  const sign = async (data: string) => signText(await (signer ??= signerOf(key)), data);
  const renew = async () => {
    const { sub: publicKey, name, nats } = claimsOf(jwt);
    const [, user, device] = /^(.*?)\/(.*)/.exec(name) ?? [];
    const tenant = /rccs-tenant:([^,]*)/.exec(nats?.tags)?.[1]; // the tags as one text
    const next = { ...(await postSigned(url, "renew", sign, { publicKey, user, device, tenant })), key };
    jwt = next.jwt;
    await o.onRenewed?.(next);
  };
  const auth = {
    renewable: true, // unless the key was not enrolled, or is not any more
    async load(fresh: boolean) {
      if ((fresh || ended(jwt)) && auth.renewable)
        await renew().catch((e) => {
          // One that was handed out and not enrolled ends for good; anything else is tried again.
          if (!isFinal(e.code)) throw e;
          auth.renewable = false;
        });
    },
    async prove(nonce: string) {
      if (/\p{Cc}/u.test(nonce)) throw new RccsError("AUTH_ERROR", "nonce");
      return { authToken: jwt, sig: await sign(nonce) };
    },
  };
  return auth;
}

/** Reads a .creds file; what enroll returned is taken as it is. */
export function parseCreds(creds: string | Credentials): Pick<Credentials, "jwt" | "key"> {
  const found: any = (creds as Credentials).jwt ? creds : /USER JWT-+\s+(?<jwt>\S+)[^]*\s(?<key>SU[A-Z2-7]{56})\s/.exec(creds as string)?.groups;
  if (!found?.key) throw new RccsError("AUTH_ERROR", "not a .creds text");
  return found;
}

/** A key to sign with: as it is, or from a seed, which may stand in a .creds text. */
export async function signerOf(key: CryptoKeyPair | string): Promise<CryptoKey> {
  if (typeof key !== "string") return key.privateKey;
  const seed = seedBytes(key);
  const head = fromBase64("MC4CAQAwBQYDK2VwBCIEIA=="); // PKCS #8 of an Ed25519 key
  return subtle().importKey("pkcs8", Uint8Array.from([...head, ...seed]), "Ed25519", false, ["sign"]);
}

export function subtle(): SubtleCrypto {
  const s = globalThis.crypto?.subtle;
  if (!s) throw new RccsError("AUTH_REQUIRED", "WebCrypto needs https");
  return s;
}

export const signText = async (key: CryptoKey, data: string): Promise<string> =>
  toBase64url(new Uint8Array(await subtle().sign("Ed25519", key, utf8(data))));

/** Asks the edge for a credential: POST /v1/enroll or /v1/renew with a signed request. */
export async function postSigned(url: string, what: "enroll" | "renew", sign: (data: string) => Promise<string>, body: object) {
  const request = toBase64url(utf8(text({ ...body, time: new Date() })));
  const sig = await sign(`rccs ${what} v1\n${request}`);
  const base = url.replace(/^ws/, "http").replace(/(\/v1\/ws)?\/?([?#].*)?$/, "");
  const answer = await fetch(`${base}/v1/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: text({ request, sig }) });
  const told: any = await answer.json().catch(() => {});
  // A page of a network that wants a login first is an answer too.
  if (!told?.jwt) throw toError({ code: "UNAVAILABLE", message: `${base}: ${answer.status}`, ...told });
  return told as { [member in "jwt" | "expiresAt" | "renewUntil"]: string };
}
