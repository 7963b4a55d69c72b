import { postSigned, signText, subtle } from "./auth.js";
import { toNkey } from "./nkeys.js";
import { RccsError, type Credentials } from "./types.js";

/**
 * Makes a key for this device, and has the edge sign a credential for it, by a one-time code or an identity token of a party that
 * the edge trusts. The key is made by WebCrypto and cannot be taken out. Keep what is returned, in IndexedDB or wherever a
 * CryptoKeyPair can be kept; connect() renews it. A user of another tenant than the default one has it in the url, as `?tenant=NAME`.
 */
export async function enroll(
  url: string,
  o: { code: string; device?: string; type?: string } | { idToken: string; device: string; type?: string },
): Promise<Credentials> {
  let key: CryptoKeyPair;
  try {
    key = (await subtle().generateKey("Ed25519", false, ["sign", "verify"])) as CryptoKeyPair;
  } catch (e) {
    throw new RccsError("AUTH_REQUIRED", "WebCrypto has no Ed25519 here: have your server hand out bearer tokens", { cause: e });
  }
  const publicKey = toNkey("U", new Uint8Array(await subtle().exportKey("raw", key.publicKey)));
  const claim = "code" in o ? { code: o.code } : { token: o.idToken };
  const tenant = /\?(?:[^#]*&)?tenant=([^&#]+)/.exec(url)?.[1];
  const made = await postSigned(url, "enroll", (data) => signText(key.privateKey, data), { ...claim, ...(o.device && { device: o.device }), ...(tenant && { tenant }), publicKey });
  return { ...made, key };
}
