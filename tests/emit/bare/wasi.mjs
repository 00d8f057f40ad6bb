// Runs a WASI program on one file: node wasi.mjs PROGRAM.wasm FILE
import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { WASI } from 'node:wasi';

const [program, file] = process.argv.slice(2);
const wasi = new WASI({
  version: 'preview1',
  args: ['test', '/data/' + basename(file)],
  preopens: { '/data': dirname(file) },
});
const { instance } = await WebAssembly.instantiate(readFileSync(program), wasi.getImportObject());
process.exitCode = wasi.start(instance);
