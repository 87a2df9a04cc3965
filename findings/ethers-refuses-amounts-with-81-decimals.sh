#!/usr/bin/env bash
# Software:  ethers 6.15.0 beside viem 2.40.3, both on npm
# Expected:  formatUnits and parseUnits take the decimals of any ERC-20 token, which are a uint8: 0 to 255.
# Observed:  ethers throws for 81 and more, as if the argument were wrong. viem formats and reads all of them.
# Cause:     formatUnits makes a FixedNumber, and its format has at most 80 decimals.
# Care:      a token with more is rare and valid, anybody can make one and send it, and a page that formats a list of
#            balances fails as a whole by it. Catch the error for each token, or format by strings.
# Output:    ethers: 80 decimals 82 characters, 81 decimals refused, 255 decimals refused
#            viem: 80 decimals 82 characters, 81 decimals 83 characters, 255 decimals 257 characters
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts ethers@6.15.0 viem@2.40.3 || exit 2
cat > try.mjs <<'JS'
import * as ethers from 'ethers';
import * as viem from 'viem';
const said = {};
for (const [name, { formatUnits, parseUnits }] of Object.entries({ ethers, viem })) {
  said[name] = [80, 81, 255].map((decimals) => {
    try {
      const text = formatUnits(123n, decimals);
      return parseUnits(text, decimals) === 123n ? `${text.length} characters` : 'another amount';
    } catch {
      return 'refused';
    }
  });
  console.log(`${name}: ` + [80, 81, 255].map((d, i) => `${d} decimals ${said[name][i]}`).join(', '));
}
const same = said.ethers.join() === '82 characters,refused,refused' &&
  said.viem.join() === '82 characters,83 characters,257 characters';
process.exit(same ? 0 : 1);
JS
timeout 30 node try.mjs
