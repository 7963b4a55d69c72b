// Run by Node, Deno and Bun alike: two devices, a message each way, a request in parts, a topic. Prints what came.
//   runtime.js URL PHONES-TOKEN DESKTOPS-CREDENTIALS
import { connect, memoryStore } from "../../dist/index.js";

const [url, token, credentials] = process.argv.slice(2);
const phone = connect(url, { token, type: "mobile", store: memoryStore() });
const desktop = connect(url, { credentials, type: "desktop", store: memoryStore() });
const heard = [];
const both = new Promise((done) => {
  const hear = (payload, { fromDeviceId }) => heard.push(`${fromDeviceId}: ${payload}`) === 2 && done();
  for (const device of [phone, desktop]) device.on("note", hear);
});
desktop.handle("count", async function* (n) {
  for (let i = 1; i <= n; i++) yield i;
});
await Promise.all([phone.ready(), desktop.ready()]);
await phone.send("note", "hello", { to: "desktop" });
await desktop.send("note", "welcome", { to: "phone" });
await both;
heard.sort(); // they are in no order among each other
for await (const part of phone.requestStream("count", 3, { to: "desktop" })) heard.push(part);
await phone.publish("runtime", "topic");
for await (const item of desktop.subscribe("runtime", { since: 0 })) {
  heard.push(item.data);
  break;
}
await Promise.all([phone.close(), desktop.close()]);
console.log(heard.join(", "));
