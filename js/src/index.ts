/**
 * The RCCS client: one device of a user, connected to an edge through lost links, reloads and restarts.
 * @module
 */
export { connect } from "./client.js";
export { enroll } from "./enroll.js";
export { indexedDBStore } from "./idb.js";
export { memoryStore } from "./store.js";
export {
  RccsError,
  Reject,
  type Capabilities,
  type Client,
  type Credentials,
  type Device,
  type Gap,
  type Handling,
  type Message,
  type Options,
  type Outcome,
  type Presence,
  type Priority,
  type RequestOptions,
  type SendOptions,
  type Sent,
  type Session,
  type State,
  type Status,
  type Store,
  type To,
  type TopicItem,
} from "./types.js";
