#!/usr/bin/env bash
# Software:  viem 2.40.3, beside ethers 6.15.0 and web3-utils 4.3.3, all on npm
# Expected:  parseUnits of an amount with more decimals than the token has is refused, as ethers does, or cut: never is
#            the result more than what was asked for.
# Observed:  viem rounds to the nearest, also up: 0.9999999 of a token with 6 decimals is one whole token. It even
#            rounds up below the half when there are many digits. web3 cuts, and answers an empty text instead of 0
#            when nothing is left.
# Cause:     the digits behind the last decimal become a JavaScript number, which Math.round rounds; from 17 digits on
#            that number is itself rounded before.
# Care:      a balance that was worked out with more decimals and is then sent as a whole is more than there is, and
#            the transfer fails. Count the decimals before the call, and cut or refuse what is too long.
# Output:    0.9999999 with 6 decimals: viem 1000000, ethers refuses, web3 999999
#            1.00000049999999999999999 with 6 decimals: viem 1000001, ethers refuses, web3 1000000
#            0.0000004 with 6 decimals: viem 0, ethers refuses, web3 an empty text
#            a balance of 2.5 less a fee of 0.0000001: viem 2500000 of 2500000
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts ethers@6.15.0 viem@2.40.3 \
  web3-utils@4.3.3 || exit 2
cat > try.mjs <<'JS'
import * as ethers from 'ethers';
import * as viem from 'viem';
import { toWei } from 'web3-utils';
const libraries = {
  viem: (text) => viem.parseUnits(text, 6),
  ethers: (text) => ethers.parseUnits(text, 6),
  web3: (text) => toWei(text, 6),
};
const look = (text) => Object.entries(libraries).map(([name, parse]) => {
  try {
    const got = parse(text);
    return `${name} ${got === '' ? 'an empty text' : got}`;
  } catch {
    return `${name} refuses`;
  }
}).join(', ');
const wanted = {
  '0.9999999': 'viem 1000000, ethers refuses, web3 999999',
  '1.00000049999999999999999': 'viem 1000001, ethers refuses, web3 1000000',
  '0.0000004': 'viem 0, ethers refuses, web3 an empty text',
};
let same = true;
for (const [text, want] of Object.entries(wanted)) {
  const got = look(text);
  console.log(`${text} with 6 decimals: ${got}`);
  same &&= got === want;
}
const rest = viem.parseUnits('2.4999999', 6), balance = viem.parseUnits('2.5', 6);
console.log(`a balance of 2.5 less a fee of 0.0000001: viem ${rest} of ${balance}`);
process.exit(same && rest === balance ? 0 : 1);
JS
timeout 30 node try.mjs
