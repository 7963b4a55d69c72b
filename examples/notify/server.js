// A backend that notifies its users' devices. It holds no connection to RCCS: it speaks HTTP.
//   RCCS_API=http://127.0.0.1:8081 RCCS_EDGE=ws://127.0.0.1:8080 RCCS_TOKEN_FILE=web.token node server.js
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const api = process.env.RCCS_API ?? "http://127.0.0.1:8081";
const edge = process.env.RCCS_EDGE ?? "ws://127.0.0.1:8080";
const authorization = `Bearer ${readFileSync(process.env.RCCS_TOKEN_FILE ?? "web.token", "utf8").trim()}`;

async function rccs(method, path, body) {
  const answer = await fetch(api + path, { method, headers: { authorization, "content-type": "application/json" }, body: JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(`${told.code}: ${told.detail}`);
  return told;
}

/** Stands for the session that your app has already. */
const userOf = (request) => /(?:^|; )user=([a-z]+)/.exec(request.headers.cookie ?? "")?.[1];

/** Notifies a user: on all devices, or on any one of them. Stored until a device has shown it, or for a day. */
const notify = (user, title, body) =>
  rccs("POST", "/v1/messages", { to: { user }, type: "notice", payload: { title, body }, ttlMs: 86_400_000 });

/** Prints what becomes of notifications. It goes on where it was when the connection or RCCS is lost. */
async function follow() {
  for (let after = ""; ; await new Promise((r) => setTimeout(r, 1000)))
    try {
      const events = await fetch(`${api}/v1/events?kind=delivered,expired,rejected${after && `&after=${after}`}`, { headers: { authorization } });
      let rest = "";
      for await (const chunk of events.body.pipeThrough(new TextDecoderStream())) {
        const whole = (rest + chunk).split("\n\n");
        rest = whole.pop();
        for (const event of whole) {
          const [kind, data, id] = ["event", "data", "id"].map((field) => new RegExp(`^${field}: (.*)`, "m").exec(event)?.[1]);
          after = id ?? after;
          if (data) console.log(`${kind}: ${data}`);
        }
      }
    } catch (error) {
      console.error(`events: ${error.message}`);
    }
}
void follow();

const sdk = new URL("./", import.meta.resolve("@rccs/client"));
const page = readFileSync(new URL("index.html", import.meta.url), "utf8").replace("EDGE", edge);

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://here");
  const user = userOf(request);
  try {
    if (request.method === "GET" && url.pathname === "/") response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page);
    else if (request.method === "GET" && /^\/rccs\/[\w-]+\.js$/.test(url.pathname))
      response.writeHead(200, { "content-type": "text/javascript" }).end(readFileSync(fileURLToPath(new URL(url.pathname.slice(6), sdk))));
    else if (request.method !== "POST" || !user) response.writeHead(403).end();
    else if (url.pathname === "/rccs-token") {
      const device = url.searchParams.get("device") ?? "";
      if (!/^[a-z0-9-]{1,64}$/.test(device)) return void response.writeHead(400).end();
      const { token } = await rccs("POST", `/v1/users/${user}/devices/${device}/token`, { type: "browser", expiresSeconds: 3600 });
      response.writeHead(200, { "cache-control": "no-store" }).end(token);
    } else if (url.pathname === "/order") {
      // Something happens in your app: the user hears of it on every device.
      const { recipients } = await notify(user, "Your order is on its way", "It arrives tomorrow.");
      response.writeHead(202, { "content-type": "application/json" }).end(JSON.stringify(recipients));
    } else response.writeHead(404).end();
  } catch (error) {
    console.error(error.message);
    response.writeHead(502).end();
  }
});
server.listen(process.env.PORT ?? 3000, "127.0.0.1", () => console.log(`listening on http://localhost:${server.address().port}`));
