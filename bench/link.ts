/**
 * The link between client and servers (loopback, or a pair of virtual Ethernet devices between two network
 * namespaces) and its congestion control.
 */
import { attempt, run, signal, spawn } from "./harness.ts";
import { isIsolated } from "./namespace.ts";

export const LINKS = ["loopback", "veth"] as const;

const SYSCTL = "/proc/sys/net/ipv4/tcp_congestion_control";

/** Addresses from the range for benchmarks (RFC 2544). */
const VETH = { client: "198.18.0.1", server: "198.18.0.2", network: "198.18.0.0/30", mtu: "1500" };

/** The namespace of one end: the command prefix to run a program there, and its outgoing routes. */
interface End {
  readonly enter: readonly string[];
  readonly routes: readonly (readonly string[])[];
}

export interface Link {
  readonly name: typeof LINKS[number];
  readonly what: string;
  /** Where the servers listen. */
  readonly host: string;
  readonly client: End;
  readonly server: End;
}

/** How the congestion control was set; undefined if it could not be set. */
export type Means = "sysctl" | "route" | undefined;

/** Opens a link. Prints a message and returns undefined if that is impossible. */
export async function openLink(name: Link["name"]): Promise<Link | undefined> {
  if (name === "veth" && !isIsolated) {
    console.log("\nveth SKIPPED: it needs network namespaces");
    return undefined;
  }
  return await (name === "veth" ? openVeth() : openLoopback());
}

async function openLoopback(): Promise<Link> {
  if (isIsolated) await run(["ip", "link", "set", "lo", "up"]);
  const local = (
    prefix: string,
  ) => [
    "local",
    prefix,
    "dev",
    "lo",
    "table",
    "local",
    "proto",
    "kernel",
    "scope",
    "host",
    "src",
    "127.0.0.1",
  ];
  const end: End = { enter: [], routes: ["127.0.0.0/8", "127.0.0.1"].map(local) };
  return { name: "loopback", what: "loopback", host: "127.0.0.1", client: end, server: end };
}

/** Creates the namespace of the servers, which lasts as long as this process. The client runs in ours. */
async function openVeth(): Promise<Link> {
  const holder = spawn(["unshare", "--net", "cat"], { stdin: "piped" }); // cat waits for input that never comes
  const path = `/proc/${holder.pid}/ns/net`;
  while (Deno.readLinkSync(path) === Deno.readLinkSync("/proc/self/ns/net")) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const enter = ["nsenter", `--net=${path}`];
  const { client, server, network, mtu } = VETH;
  const commands = [
    [
      "ip",
      "link",
      "add",
      "bench0",
      "mtu",
      mtu,
      "type",
      "veth",
      "peer",
      "name",
      "bench1",
      "mtu",
      mtu,
      "netns",
      path,
    ],
    ["ip", "addr", "add", `${client}/30`, "dev", "bench0"],
    ["ip", "link", "set", "bench0", "up"],
    [...enter, "ip", "addr", "add", `${server}/30`, "dev", "bench1"],
    [...enter, "ip", "link", "set", "bench1", "up"],
    [...enter, "ip", "link", "set", "lo", "up"],
  ];
  for (const command of commands) await run(command);
  const route = (
    dev: string,
    src: string,
  ) => [[network, "dev", dev, "proto", "kernel", "scope", "link", "src", src]];
  return {
    name: "veth",
    what: `a pair of veth devices with an MTU of ${mtu}`,
    host: server,
    client: { enter: [], routes: route("bench0", client) },
    server: { enter, routes: route("bench1", server) },
  };
}

/**
 * Sets the congestion control of future connections at both ends: by the sysctl of the namespace, or by an attribute of
 * the routes if the sysctl refuses the value (namespaces other than the initial one accept only those that the initial
 * one lists in tcp_allowed_congestion_control). Does this only in our own namespaces.
 */
export async function setCongestion(link: Link, name: string): Promise<{ means: Means; complaint?: string }> {
  if (!isIsolated) return { means: undefined, complaint: "the namespace is not ours" };
  const ends = link.client === link.server ? [link.client] : [link.client, link.server];
  const routes = (...attribute: string[]) =>
    ends.flatMap(({ enter, routes }) =>
      routes.map((route) => [...enter, "ip", "route", "replace", ...route, ...attribute])
    );
  await runEverywhere(routes()); // removes the attribute of the previous run, which would override the sysctl
  const bySysctl = await runEverywhere(
    ends.map(({ enter }) => [...enter, "sh", "-c", 'echo "$0" >' + SYSCTL, name]),
  );
  if (bySysctl === undefined) return { means: "sysctl" };
  const byRoute = await runEverywhere(routes("congctl", name));
  if (byRoute === undefined) return { means: "route" };
  return { means: undefined, complaint: `${bySysctl}; ${byRoute}` };
}

/** Runs all commands; returns the error text of the first that fails. */
async function runEverywhere(commands: readonly (readonly string[])[]): Promise<string | undefined> {
  for (const command of commands) {
    const { success, text } = await attempt(command) ?? { success: false, text: `no ${command[0]}` };
    if (!success) return text;
  }
}

/** The congestion control of established connections at the servers' end, by port; empty without `ss`. */
export async function congestionByPort(link: Link): Promise<Map<number, string>> {
  const listed = await attempt([...link.server.enter, "ss", "-tinOH", "state", "established"]);
  const names = Deno.readTextFileSync("/proc/sys/net/ipv4/tcp_available_congestion_control").trim().split(
    " ",
  );
  const found = new Map<number, string>();
  for (const line of listed?.success ? listed.text.split("\n") : []) {
    const port = /:(\d+) /.exec(line)?.[1]; // of the local address, which comes first
    const name = line.split(/\s+/).find((word) => names.includes(word));
    if (port && name) found.set(Number(port), name);
  }
  return found;
}
