/** A peer in a process of its own: connects to a port, and writes all that comes to a file. */
import * as fs from "node:fs";
import * as net from "node:net";
import process from "node:process";

const [port, output] = process.argv.slice(2);
const socket = net.connect(Number(port), "127.0.0.1");
socket.pipe(fs.createWriteStream(output));
