#!/usr/bin/env bash
# Software:  @uniswap/sdk-core 7.7.2 with decimal.js-light 2.5.1, both on npm
# Expected:  toSignificant(digits, format, Rounding.ROUND_UP) is never less than the amount, as toFixed is not: so one
#            shows the most that a trade may cost, or the price that an order must reach.
# Observed:  it is less whenever the next digit is a zero. 1.00001 is 1 in four digits, and 1234.01 is 1234, where
#            toFixed says 1.001 and 1235.
# Cause:     the amount is divided to one digit more than is asked for, and only then rounded up. The division of
#            decimal.js-light cuts what is behind, whatever rounding is set, and a zero tells nothing of it.
# Care:      who types in what is shown pays too little, and the trade is refused. It is off by one unit of the last
#            digit, for nearly one amount in ten. Use toFixed for bounds, or toSignificant with all the digits of the
#            token.
# Output:    1.00001 USDC rounded up: toSignificant(4) 1, toFixed(3) 1.001
#            1234.01 USDC rounded up: toSignificant(4) 1234, toFixed(0) 1235
#            1234.10 USDC rounded up: toSignificant(4) 1235, toFixed(0) 1235
#            of 99999 amounts, 1000.01 to 1999.99, too small: 9000 by toSignificant(4), 0 by toFixed(0)
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts @uniswap/sdk-core@7.7.2 \
  decimal.js-light@2.5.1 || exit 2
cat > try.cjs <<'JS'
const { CurrencyAmount, Rounding, Token } = require('@uniswap/sdk-core');
const usdc = new Token(1, '0x' + '11'.repeat(20), 6, 'USDC');
const rounded = (units, digits, decimals) => {
  const amount = CurrencyAmount.fromRawAmount(usdc, units);
  return [amount.toSignificant(digits, undefined, Rounding.ROUND_UP),
    amount.toFixed(decimals, undefined, Rounding.ROUND_UP)];
};
const said = [];
for (const [text, units, decimals] of [['1.00001', 1000010, 3], ['1234.01', 1234010000, 0],
  ['1234.10', 1234100000, 0]]) {
  const [significant, fixed] = rounded(units, 4, decimals);
  said.push(`${significant} ${fixed}`);
  console.log(`${text} USDC rounded up: toSignificant(4) ${significant}, toFixed(${decimals}) ${fixed}`);
}
let less = 0, lessFixed = 0;
for (let cents = 100001; cents < 200000; cents++) {
  const [significant, fixed] = rounded(cents * 10000, 4, 0);
  if (Number(significant) * 100 < cents) less++;
  if (Number(fixed) * 100 < cents) lessFixed++;
}
console.log(`of 99999 amounts, 1000.01 to 1999.99, too small: ${less} by toSignificant(4), ` +
  `${lessFixed} by toFixed(0)`);
process.exit(said.join() === '1 1.001,1234 1235,1235 1235' && less > 0 && lessFixed === 0 ? 0 : 1);
JS
timeout 60 node try.cjs
