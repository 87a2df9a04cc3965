#!/usr/bin/env bash
# Software:  Aave V3 (@aave/core-v3 1.19.3) on anvil 1.7.1
# Expected:  who withdraws from Aave burns aTokens: an event Transfer from the user to the zero address, of the amount,
#            as ERC-20 tokens tell of a burn, and Burn.
# Observed:  where the interest since the user's last action is more than the withdrawn amount, the token tells of the
#            opposite: a Transfer from the zero address to the user, of the difference, and Mint. None of its events
#            has the amount. Where the interest is less, it is a Transfer to zero, of the difference too.
# Cause:     the balance grows without events, so each action tells of the net change since the last one: interest less
#            the amount. A comment of the contract says so, the interface of its events and ERC-20 don't.
# Care:      a history of movements that is read from Transfer shows money that comes in when it goes out, with an
#            amount that nobody moved. Take withdrawals from the Withdraw event of the pool, or from the transfer of
#            the underlying token; Mint has the interest in balanceIncrease.
# Output:    supply of 1000: aToken Transfer of 1000 from zero to the user, Mint; balance 1000
#            50 of interest, withdrawal of 20: aToken Transfer of 30 from zero to the user, Mint; balance 1030
#            at once a withdrawal of 20: aToken Transfer of 20 from the user to zero, Burn; balance 1010
#            the user has got 40 of the underlying token
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts @foundry-rs/anvil@1.7.1 \
  @aave/core-v3@1.19.3 ethers@6.15.0 || exit 2
anvil=$(ls node_modules/@foundry-rs/anvil-*/bin/anvil 2>/dev/null | head -1)
[ -n "$anvil" ] || exit 2
port=$((20000 + RANDOM % 20000))
"$anvil" --silent --port "$port" &
pids=$!
cat > try.cjs <<'JS'
const { Interface, ZeroAddress, formatUnits } = require('ethers');
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const artifact = (path) => {
  const a = require(`@aave/core-v3/artifacts/contracts/${path}`);
  return [new Interface(a.abi), a.bytecode];
};
const ask = async (method, ...params) => {
  const answer = await (await fetch(`http://127.0.0.1:${process.argv[2]}`, {
    method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })).json();
  if (answer.error) throw new Error(JSON.stringify(answer.error));
  return answer.result;
};
const ray = 10n ** 27n;
const usd = (n) => BigInt(n) * 1000000n;
(async () => {
  for (let i = 0; ; i++) {
    try { await ask('eth_chainId'); break; } catch { if (i === 300) process.exit(2); await wait(100); }
  }
  const [deployer, user] = await ask('eth_accounts');
  const send = async (from, to, data) => {
    const hash = await ask('eth_sendTransaction', { from, gas: '0xe00000', data, ...(to && { to }) });
    for (;;) {
      const receipt = await ask('eth_getTransactionReceipt', hash);
      if (receipt && receipt.status !== '0x1') process.exit(2);
      if (receipt) return receipt;
      await wait(5);
    }
  };
  const create = async ([abi, code], ...args) =>
    (await send(deployer, '', code + abi.encodeDeploy(args).slice(2))).contractAddress;

  // In place of the pool an account that answers each call with its first word of storage: the index of interest.
  const pool = '0x00000000000000000000000000000000000b0071';
  await ask('anvil_setCode', pool, '0x60005460005260206000f3');
  await ask('anvil_setBalance', pool, '0xde0b6b3a7640000');
  await ask('anvil_impersonateAccount', pool);
  const grow = (index) =>
    ask('anvil_setStorageAt', pool, '0x0', '0x' + index.toString(16).padStart(64, '0'));
  await grow(ray);

  const underlying = artifact('mocks/tokens/MintableERC20.sol/MintableERC20.json');
  const aToken = artifact('protocol/tokenization/AToken.sol/AToken.json');
  const u = await create(underlying, 'USD', 'USD', 6), a = await create(aToken, pool);
  const call = (abi, from, to, name, ...args) => send(from, to, abi.encodeFunctionData(name, args));
  const balance = async (abi, to) =>
    formatUnits(BigInt(await ask('eth_call', { to, data: abi.encodeFunctionData('balanceOf', [user]) }, 'latest')), 6)
      .replace(/\.0$/, '');
  await call(aToken[0], deployer, a, 'initialize', pool, deployer, u, ZeroAddress, 6, 'aUSD', 'aUSD', '0x');
  await call(underlying[0], deployer, u, 'mint(address,uint256)', a, usd(2000));

  const who = (address) => address === ZeroAddress ? 'zero' : address.toLowerCase() === user ? 'the user' : address;
  const said = [];
  const told = async (what, receipt) => {
    const events = receipt.logs.filter((l) => l.address === a).map((l) => aToken[0].parseLog(l)).map((e) =>
      e.name !== 'Transfer' ? e.name
        : `Transfer of ${Number(e.args.value) / 1e6} from ${who(e.args.from)} to ${who(e.args.to)}`);
    said.push(`aToken ${events.join(', ')}; balance ${await balance(aToken[0], a)}`);
    console.log(`${what}: ${said.at(-1)}`);
  };
  await told('supply of 1000', await call(aToken[0], pool, a, 'mint', user, user, usd(1000), ray));
  const index = ray * 105n / 100n;
  await grow(index);
  const withdraw = () => call(aToken[0], pool, a, 'burn', user, user, usd(20), index);
  await told('50 of interest, withdrawal of 20', await withdraw());
  await told('at once a withdrawal of 20', await withdraw());
  const got = await balance(underlying[0], u);
  console.log(`the user has got ${got} of the underlying token`);
  process.exit(said[1] === 'aToken Transfer of 30 from zero to the user, Mint; balance 1030' &&
    said[2].startsWith('aToken Transfer of 20 from the user to zero, Burn; balance 10') && got === '40' ? 0 : 1);
})().catch((e) => { console.error(e.message); process.exit(2); });
JS
timeout 60 node try.cjs "$port"
