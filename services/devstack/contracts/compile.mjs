// Compiles every contract under src/ with the pinned solc and writes one JSON
// artefact each to ../chain/artifacts: abi, creation bytecode, runtime bytecode.
//
//   npm ci && node compile.mjs
//
// The output depends on the sources, the compiler version and the settings
// below, and on nothing else: running it twice leaves no diff.

import { readFileSync, readdirSync, rmSync, writeFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const sourceDir = join(here, "src");
const artifactDir = join(here, "..", "chain", "artifacts");

const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  // No metadata hash at the end of the code: it would change with a comment.
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function compile() {
  const sources = {};
  for (const file of readdirSync(sourceDir).filter((f) => f.endsWith(".sol")).sort()) {
    sources[file] = { content: readFileSync(join(sourceDir, file), "utf8") };
  }
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
  const problems = output.errors ?? [];
  for (const problem of problems) {
    console.error(problem.formattedMessage);
  }
  if (problems.length > 0) {
    throw new Error("the contracts don't compile without a warning");
  }
  return output.contracts;
}

function write(contracts) {
  mkdirSync(artifactDir, { recursive: true });
  for (const old of readdirSync(artifactDir).filter((f) => f.endsWith(".json"))) {
    rmSync(join(artifactDir, old));
  }
  for (const file of Object.keys(contracts).sort()) {
    for (const [name, contract] of Object.entries(contracts[file])) {
      if (contract.evm.bytecode.object === "" || contract.abi.length === 0) {
        continue; // an interface, an abstract contract or a library
      }
      const artifact = {
        contract: name,
        compiler: `solc ${solc.version()}`,
        abi: contract.abi,
        bytecode: "0x" + contract.evm.bytecode.object,
        runtime: "0x" + contract.evm.deployedBytecode.object,
      };
      writeFileSync(join(artifactDir, `${name}.json`), JSON.stringify(artifact, null, 2) + "\n");
    }
  }
}

write(compile());
