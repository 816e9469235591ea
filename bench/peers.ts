/** Other servers that need a configuration, started with the same header fields as this package's. */
import { local } from "./harness.ts";
import { compileGo } from "./programs.ts";
import { type Contender, freePort, start, startAt } from "./servers.ts";

/** nginx with one worker; all other settings are nginx's defaults. */
export function startNginx(http: string): Contender["start"] {
  return (name, setting, program) => {
    const { link, pad, place: { programs, data } } = setting;
    const port = freePort(link);
    const own = Deno.makeTempDirSync({ dir: programs, prefix: `${name}-` });
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    const config = `
      ${Deno.uid() === 0 ? "user root;" : ""} # another user may not read a temporary directory
      daemon off;
      worker_processes 1;
      pid ${own}/nginx.pid;
      error_log ${own}/error.log;
      events { worker_connections 4096; }
      http {
        access_log off;
        sendfile on;
        tcp_nopush on;
        server_tokens off;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
        default_type application/octet-stream;
        ${temporary.map((name) => `${name}_temp_path ${own}/${name};`).join("\n        ")}
        ${http}
        ${pad ? `add_header X-Pad ${pad};` : ""}
        server {
          listen ${link.host}:${port};
          root ${data};
        }
      }`;
    Deno.writeTextFileSync(`${own}/nginx.conf`, config);
    const args = ["-p", own, "-e", `${own}/error.log`, "-c", `${own}/nginx.conf`];
    return startAt(name, setting, port, [program, ...args]);
  };
}

export const startCaddy: Contender["start"] = (name, setting, program) => {
  const { link, pad, place: { programs, data } } = setting;
  const port = freePort(link);
  const own = Deno.makeTempDirSync({ dir: programs, prefix: "caddy-" });
  // Caddy prints a warning unless the lines are indented by tabs.
  const config = `{
\tadmin off
\tauto_https off
\tlog {
\t\tlevel ERROR
\t}
}
http://:${port} {
\tbind ${link.host}
\troot * ${data}
\theader -Server
\theader Content-Type application/octet-stream
${pad ? `\theader X-Pad ${pad}\n` : ""}\tfile_server
}
`;
  Deno.writeTextFileSync(`${own}/Caddyfile`, config);
  const command = [program, "run", "--adapter", "caddyfile", "--config", `${own}/Caddyfile`];
  return startAt(name, setting, port, command, { XDG_DATA_HOME: own, XDG_CONFIG_HOME: own });
};

export const startGo: Contender["start"] = async (name, setting, program) => {
  return await start(name, setting, [await compileGo(setting.place, program), setting.place.data]);
};

/** `program` is the path of sirv. */
export const startSirv: Contender["start"] = (name, setting, program) =>
  start(name, setting, ["node", local("http_sirv.mjs"), setting.place.data, program]);
