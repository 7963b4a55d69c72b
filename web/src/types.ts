// What the HTTP API answers, as far as the console reads it. docs/http.md
// describes it; fields may be added by the server at any time.

export interface Page<T> {
  items: T[];
  next?: string;
}

export interface Problem {
  title?: string;
  detail?: string;
  code?: string;
  status?: number;
  unacknowledged?: number;
}

export interface Device {
  user: string;
  device: string;
  type?: string;
  platform?: string;
  version?: string;
  status: string;
  lastSeen: string;
  registered?: string;
  capabilities?: Record<string, unknown>;
  unacknowledged?: number;
  edge?: string;
  session?: string;
  since?: string;
}

export interface Message {
  seq: number;
  lane: string;
  id: string;
  type: string;
  timestamp: string;
  from?: string;
  stored?: string;
  bytes?: number;
  replay?: boolean;
  reason?: string;
  rejectedAt?: string;
  payload?: unknown;
  encoding?: string;
  state?: string;
}

export interface Step {
  at: string;
  what: string;
  deviceId?: string;
  seq?: number;
  edge?: string;
  detail?: string;
}

export interface Life {
  id: string;
  steps: Step[];
}

export interface Replayed {
  messages: number;
  first?: number;
  last?: number;
}

export interface Edge {
  id: string;
  name: string;
  address?: string;
  version?: string;
  started: string;
  devices: number;
  renewed?: string;
  draining?: boolean;
}

export interface Replica {
  name: string;
  current: boolean;
  offline?: boolean;
  lag: number;
}

export interface Stream {
  name: string;
  messages: number;
  bytes: number;
  perSecond: number;
  last?: string;
  leader?: string;
  replicas?: Replica[];
}

export interface ServerStats {
  name: string;
  version: string;
  started: string;
  memory: number;
  cpu: number;
  connections: number;
  storeUsed: number;
  storeLimit: number;
}

export interface Status {
  server: { name: string; version: string; cluster?: string; url: string };
  servers?: ServerStats[];
  store: { used: number; limit: number };
  streams: Stream[];
  edges: Edge[];
  coordinators: { id: string; version: string }[];
  devices: number;
  online: number;
  behind: { user: string; device: string; unacknowledged: number; oldest?: string }[];
}

export interface Finding {
  check: string;
  level: string;
  what: string;
  fix?: string;
}

export interface Stats {
  at: string;
  connections: number;
  devicesOnline: number;
  receivedPerSecond: number;
  deliveredPerSecond: number;
  acknowledgedPerSecond: number;
  storedToWrittenMs: { p50: number | null; p99: number | null };
  storedToAckedMs: { p50: number | null; p99: number | null };
  unacknowledged: number;
  storedBytes: number;
  storageLimit: number;
}

export interface Flow {
  at: string;
  kind: string;
  user: string;
  device: string;
  lane?: string;
  seq?: number;
  id?: string;
  type?: string;
  from?: string;
  bytes?: number;
  event?: string;
  payload?: unknown;
  encoding?: string;
}

export interface TopicMessage {
  seq: number;
  id: string;
  from: string;
  timestamp: string;
  data: unknown;
  encoding?: string;
}

export interface AuditRecord {
  at: string;
  action: string;
  who: string;
  from: string;
  target?: string;
  detail?: string;
  result?: string;
  why?: string;
  seq: number;
}

export interface Tenant {
  name: string;
  served: boolean;
  devices: number;
  stored: number;
  consumers: number;
  share: number;
  limits?: { devices?: number; storageBytes?: number; consumers?: number };
}
