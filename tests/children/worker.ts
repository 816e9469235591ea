/** A worker that does what its first argument says, for the process that replaces it. */
import process from "node:process";

const send = (report: Record<string, unknown>) => process.send!(report);
const hang = () => setInterval(() => {}, 1000);

switch (process.argv[2]) {
  case "exit":
    process.exit(3);
    break;
  case "hang":
    hang();
    break;
  case "fail":
    process.on("message", () => send({ failed: "no place to listen on" }));
    send({ ready: true });
    break;
  case "serve":
    process.on(
      "message",
      (order: { stop?: true }) => order.stop ? process.exit(0) : send({ listening: true }),
    );
    send({ ready: true });
    break;
  case "disconnect":
    hang();
    process.on("message", () => process.send!({ listening: true }, () => process.disconnect!()));
    send({ ready: true });
    break;
}
