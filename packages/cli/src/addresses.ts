import { hostname } from "node:os";
import { type Address, ROLES, type Role } from "@dazzle/core";
import { webSocketNetwork } from "@dazzle/runtime";
import { UsageError } from "./usage.ts";

const WILDCARDS = new Set(["0.0.0.0", "[::]", "[0:0:0:0:0:0:0:0]", "*"]);
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const ADDRESS = /^(\[[^\]]+\]|[^:\s]+):(\d{1,5})$/;
const PORT_MAX = 65_535;

/** HOST:PORT, as a user writes it. Throws `UsageError`. */
export function hostPort(option: string, text: string): Address {
  const [, , port] = ADDRESS.exec(text) ?? [];
  if (port === undefined || Number(port) > PORT_MAX) throw new UsageError(`${option} takes HOST:PORT, not "${text}"`);
  return `tcp:${text}`;
}

/** An address that the map can name: one that other machines reach. */
export function listenAddress(text: string | undefined): Address {
  if (text === undefined) throw new UsageError("--listen HOST:PORT is missing: where other machines reach this one");
  const address = hostPort("--listen", text);
  const [, host = "", port] = ADDRESS.exec(text) ?? [];
  if (WILDCARDS.has(host)) throw new UsageError(`--listen takes the address at which other machines reach this one, not ${host}`);
  if (Number(port) === 0) throw new UsageError("--listen takes a port that stays, not 0");
  return address;
}

export function addressList(option: string, text: string): readonly Address[] {
  return text.split(",").map((one) => hostPort(option, one));
}

/** Roles between commas; all of them where nothing is said. */
export function rolesOf(text: string | undefined): readonly Role[] {
  if (text === undefined) return ROLES;
  const names = [...new Set(text.split(","))];
  return names.map((name) => {
    const role = ROLES.find((one) => one === name);
    if (role === undefined) throw new UsageError(`--roles: there is no role "${name}": there are ${ROLES.join(", ")}`);
    return role;
  });
}

/** The name of a member: this machine's where nothing is said. */
export function memberName(text: string | undefined): string {
  const name = text ?? (hostname().split(".")[0] as string);
  if (!NAME.test(name)) throw new UsageError(`--name takes up to 63 letters, digits, dots, dashes and underscores, not "${name}"`);
  return name;
}

/** Rejects where this machine can't listen there. */
export async function requireListenable(address: Address): Promise<void> {
  const listener = await webSocketNetwork().listen(address, (connection) => connection.close());
  await listener.close();
}
