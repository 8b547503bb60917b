// decoder.mjs reads what a client of unibus received and prints the messages
// in it. It was written from docs/protocol.md alone ("the page"; "section" below
// is one of its sections), with nothing but the standard library of Node.js 20.
//
//   node decoder.mjs recording.json
//
// One JSON line for every record of a frame goes to standard output. What is
// refused is named on standard error with the page's code for it; the program
// goes on, and exits with 1 at the end.

import crypto from 'node:crypto';
import fs from 'node:fs';

// A Refused carries one of the page's error codes.
class Refused extends Error {
  constructor(code, why) { super(why ? `${code}: ${why}` : code); }
}

const check = (ok, code, why) => { if (!ok) throw new Refused(code, why); };

// ---------------------------------------------------------------- section 1: encoding

const MAX_TIME = 253402300799n;
const ZERO32 = Buffer.alloc(32);

// Reader takes fields off bytes in order. It never makes anything of a length before it
// knows that so many bytes are there (section 8).
class Reader {
  at = 0;
  constructor(bytes) { this.bytes = bytes; }
  take(n) {
    check(n <= this.bytes.length - this.at, 'malformed', 'too short');
    return this.bytes.subarray(this.at, (this.at += n));
  }
  uint(k) { return this.take(k).readUIntBE(0, k); }
  u8() { return this.uint(1); }
  u16() { return this.uint(2); }
  u32() { return this.uint(4); }
  u64() { return this.take(8).readBigUInt64BE(); }
  // time ends with the year 9999.
  time(max = MAX_TIME) {
    const t = this.u64();
    check(t <= max, 'malformed', 'time out of range');
    return t;
  }
  // prefixed is name<k>.
  prefixed(k) { return this.take(this.uint(k)); }
  // list is name<k>{…} of at most max items of a fixed size, strictly ascending in their
  // first `order` bytes, as every list of sections 3 and 4 is.
  list(k, size, max, order, item) {
    const raw = this.prefixed(k);
    check(raw.length % size === 0 && raw.length <= size * max, 'malformed', 'length of a list');
    const items = [];
    for (let at = 0; at < raw.length; at += size) {
      check(at === 0 || raw.compare(raw, at, at + order, at - size, at - size + order) < 0, 'malformed', 'order of a list');
      items.push(item(new Reader(raw.subarray(at, at + size))));
    }
    return items;
  }
  // type is what every signed structure begins with, after the version.
  type(want) { check(this.u16() === 256 + want, 'malformed', 'version or type'); }
  get left() { return this.bytes.length - this.at; }
  end() { check(this.left === 0, 'malformed', 'bytes left over'); }
}

const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b; };
const u32 = (n) => u64(n).subarray(4);

// strict decodes text as section 1 asks. Node passes over what does not belong in
// base64, so the text has to be the one that its bytes encode to.
function strict(text, encoding = 'base64url') {
  const bytes = typeof text === 'string' ? Buffer.from(text, encoding) : undefined;
  check(bytes !== undefined && bytes.toString(encoding) === text, 'malformed', encoding);
  return bytes;
}

// token is b32(x).
function token(x) {
  let bits = '';
  for (const byte of x.subarray(0, 16)) bits += byte.toString(2).padStart(8, '0');
  return bits.match(/.{1,5}/g).map((g) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(g.padEnd(5, '0'), 2)]).join('');
}

// ---------------------------------------------------------------- section 2: primitives

const NONCE = 24, TAG = 16;

const hash = (algorithm, ...parts) => crypto.createHash(algorithm).update(Buffer.concat(parts)).digest();
const sha256 = (...parts) => hash('sha256', ...parts);

// LP(L): labels are ASCII, "unibus/1 " and the word.
function LP(word) {
  const label = Buffer.from(`unibus/1 ${word}`);
  return Buffer.concat([Buffer.of(label.length), label]);
}
const H = (word, ...x) => sha256(LP(word), ...x);
const KDF = (key, salt, word, context, n) =>
  Buffer.from(crypto.hkdfSync('sha256', key, salt, Buffer.concat([LP(word), ...context]), n));

// Keys come raw; OpenSSL wants them in DER, whose bytes in front of such a key are always the same.
const PUBLIC = { ed25519: '302a300506032b6570032100', x25519: '302a300506032b656e032100' };
const PRIVATE = { ed25519: '302e020100300506032b657004220420', x25519: '302e020100300506032b656e04220420' };
const der = (type, prefix, raw) => ({ key: Buffer.concat([Buffer.from(prefix, 'hex'), raw]), format: 'der', type });
const publicKey = (kind, raw) => crypto.createPublicKey(der('spki', PUBLIC[kind], raw));
const privateKey = (kind, raw) => crypto.createPrivateKey(der('pkcs8', PRIVATE[kind], raw));
const publicOf = (kind, raw) => crypto.createPublicKey(privateKey(kind, raw)).export({ format: 'der', type: 'spki' }).subarray(-32);

// x25519 refuses points of small order: OpenSSL fails where the result is zero.
function x25519(key, pub, code) {
  try {
    return crypto.diffieHellman({ privateKey: key, publicKey: publicKey('x25519', pub) });
  } catch {
    throw new Refused(code, 'X25519 key of small order');
  }
}

function verify(pub, word, x, sig) {
  const message = Buffer.concat([LP(word), u32(x.length), x]);
  check(crypto.verify(null, message, publicKey('ed25519', pub), sig), 'bad_signature', word);
}

// checkKey refuses what is no canonical encoding of a point of the curve, and the points of small
// order. OpenSSL verifies under any of those, and under the identity one signature fits every message.
function checkKey(pub) {
  const p = 2n ** 255n - 19n;
  const mod = (a) => ((a % p) + p) % p;
  const power = (base, e) => {
    let r = 1n;
    for (let b = mod(base); e > 0n; e >>= 1n, b = mod(b * b)) if (e & 1n) r = mod(r * b);
    return r;
  };
  const y = BigInt('0x' + Buffer.from(pub).reverse().toString('hex')) & (2n ** 255n - 1n);
  check(y < p, 'weak_key', 'not canonical');
  // x² = (y² − 1) / (d·y² + 1) has to be a square: Euler's criterion on numerator times denominator.
  const d = mod(-121665n * power(121666n, p - 2n));
  const num = mod(y * y - 1n), den = mod(d * y * y + 1n);
  check(power(num * den, (p - 1n) / 2n) !== p - 1n, 'weak_key', 'no point of the curve');
  // Points of order 8 have two y, which are negatives of each other; those of order 1, 2 and 4 have 1, −1 and 0.
  const y8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
  check(![0n, 1n, p - 1n, y8, p - y8].includes(y), 'weak_key', 'small order');
}

const aesBlock = (key, block) => crypto.createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(block);

// aeadOpen gives nothing back where the key is the wrong one or the bytes are, which cannot be told apart.
function aeadOpen(name, key, nonce, sealed, aad) {
  if (sealed.length < TAG) return undefined;
  const d = crypto.createDecipheriv(name, key, nonce, { authTagLength: TAG });
  d.setAAD(aad, { plaintextLength: sealed.length - TAG });
  d.setAuthTag(sealed.subarray(-TAG));
  try {
    return Buffer.concat([d.update(sealed.subarray(0, -TAG)), d.final()]);
  } catch {
    return undefined;
  }
}

// c2sp.org/XAES-256-GCM: the first half of the nonce makes a key by AES-CMAC in counter mode, where
// both inputs are one whole block, so that CMAC is one AES call on the block XOR the subkey K1.
function openXAES(key, nonce, sealed, aad) {
  const k1 = aesBlock(key, Buffer.alloc(16));
  const top = k1[0] >> 7;
  for (let i = 0; i < 16; i++) k1[i] = (k1[i] << 1) | (i < 15 ? k1[i + 1] >> 7 : 0);
  k1[15] ^= top * 0x87;
  const block = (counter) => Buffer.concat([Buffer.of(0, counter, 0x58, 0), nonce.subarray(0, 12)]); // 0x58 is 'X'
  const half = (counter) => aesBlock(key, block(counter).map((b, i) => b ^ k1[i]));
  return aeadOpen('aes-256-gcm', Buffer.concat([half(1), half(2)]), nonce.subarray(12), sealed, aad);
}

// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): HChaCha20 makes a key of the first 16 bytes of the nonce.
function openXChaCha(key, nonce, sealed, aad) {
  const s = new Uint32Array(16);
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(4 * i);
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(4 * i);
  const rotate = (v, n) => (v << n) | (v >>> (32 - n));
  const step = (x, y, z, n) => { s[x] += s[y]; s[z] = rotate(s[z] ^ s[x], n); };
  const quarter = (a, b, c, d) => { step(a, b, d, 16); step(c, d, b, 12); step(a, b, d, 8); step(c, d, b, 7); };
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + 1) & 3), 8 + ((i + 2) & 3), 12 + ((i + 3) & 3));
  }
  const subkey = Buffer.alloc(32);
  for (let i = 0; i < 8; i++) subkey.writeUInt32LE(s[i < 4 ? i : 8 + i], 4 * i);
  return aeadOpen('chacha20-poly1305', subkey, Buffer.concat([Buffer.alloc(4), nonce.subarray(16)]), sealed, aad);
}

function openSuite(suite, ...args) {
  return (suite === 1 ? openXAES : openXChaCha)(...args) ?? check(false, 'decrypt');
}

// ---------------------------------------------------------------- ML-KEM-768 (FIPS 203)

// Coefficients are below q = 3329, so that a product of two fits into 24 bits, and sums of a few of
// those into 32: plain numbers are exact, and polynomials are kept in 16 bits.

const Q = 3329, RANK = 3, EK = 1184, CT = 1088;
const power17 = (n) => (n === 0 ? 1 : (power17(n - 1) * 17) % Q);
const bitrev7 = (i) => parseInt(i.toString(2).padStart(7, '0').split('').reverse().join(''), 2);
const ZETAS = Uint16Array.from({ length: 128 }, (_, i) => power17(bitrev7(i)));
const GAMMAS = Uint16Array.from({ length: 128 }, (_, i) => power17(2 * bitrev7(i) + 1));

const poly = () => new Uint16Array(256);
const add = (f, g) => f.map((c, i) => (c + g[i]) % Q);
const subtract = (f, g) => f.map((c, i) => (c + Q - g[i]) % Q);
const shake = (bits, n, ...parts) =>
  crypto.createHash(`shake${bits}`, { outputLength: n }).update(Buffer.concat(parts)).digest();

// Algorithm 9, NTT.
function ntt(f) {
  const h = Uint16Array.from(f);
  for (let len = 128, i = 1; len >= 2; len >>= 1) {
    for (let start = 0; start < 256; start += 2 * len) {
      const zeta = ZETAS[i++];
      for (let j = start; j < start + len; j++) {
        const t = (zeta * h[j + len]) % Q;
        h[j + len] = (h[j] + Q - t) % Q;
        h[j] = (h[j] + t) % Q;
      }
    }
  }
  return h;
}

// Algorithm 10, its inverse.
function inverseNtt(h) {
  const f = Uint16Array.from(h);
  for (let len = 2, i = 127; len <= 128; len <<= 1) {
    for (let start = 0; start < 256; start += 2 * len) {
      const zeta = ZETAS[i--];
      for (let j = start; j < start + len; j++) {
        const t = f[j];
        f[j] = (t + f[j + len]) % Q;
        f[j + len] = (zeta * (f[j + len] + Q - t)) % Q;
      }
    }
  }
  return f.map((c) => (c * 3303) % Q); // 3303 = 128⁻¹
}

// dot is the sum of the products of two vectors in the NTT domain (algorithms 11 and 12).
function dot(a, b) {
  let sum = poly();
  for (let k = 0; k < RANK; k++) {
    const f = a[k], g = b[k], h = poly();
    for (let i = 0; i < 128; i++) {
      const f0 = f[2 * i], f1 = f[2 * i + 1], g0 = g[2 * i], g1 = g[2 * i + 1];
      h[2 * i] = (f0 * g0 + ((f1 * g1) % Q) * GAMMAS[i]) % Q;
      h[2 * i + 1] = (f0 * g1 + f1 * g0) % Q;
    }
    sum = add(sum, h);
  }
  return sum;
}

// Algorithms 5 and 6: d bits of every coefficient, the lowest first.
function byteEncode(d, f) {
  const out = Buffer.alloc(32 * d);
  for (let i = 0; i < 256 * d; i++) out[i >> 3] |= ((f[Math.floor(i / d)] >> (i % d)) & 1) << (i & 7);
  return out;
}
function byteDecode(d, bytes) {
  const f = poly();
  for (let i = 0; i < 256 * d; i++) f[Math.floor(i / d)] |= ((bytes[i >> 3] >> (i & 7)) & 1) << (i % d);
  return f;
}
const vector = (make) => Array.from({ length: RANK }, (_, i) => make(i));
const decodeVector = (d, bytes) => vector((i) => byteDecode(d, bytes.subarray(32 * d * i, 32 * d * (i + 1))));

// Section 4.2.1, with rounding half up: (2^(d+1)·c + q) / 2q, rounded down.
const compress = (d, f) => f.map((c) => Math.floor(((c << (d + 1)) + Q) / (2 * Q)) & ((1 << d) - 1));
const decompress = (d, f) => f.map((c) => (c * Q + (1 << (d - 1))) >> d);

// Algorithm 7. 840 bytes are enough but for one time in more than 2^200; more are drawn then.
function sampleNtt(rho, j, i) {
  for (let n = 840; ; n *= 2) {
    const b = shake(128, n, rho, Buffer.of(j, i)), f = poly();
    let have = 0;
    for (let at = 0; at < n && have < 256; at += 3) {
      const d1 = b[at] | ((b[at + 1] & 15) << 8), d2 = (b[at + 1] >> 4) | (b[at + 2] << 4);
      if (d1 < Q) f[have++] = d1;
      if (d2 < Q && have < 256) f[have++] = d2;
    }
    if (have === 256) return f;
  }
}

// Algorithm 8 on PRF(seed, n), with η = 2: a coefficient is the sum of two bits less that of two others.
function sampleCbd(seed, n) {
  const b = shake(256, 128, seed, Buffer.of(n));
  return poly().map((_, i) => {
    const x = b[i >> 1] >> (4 * (i & 1));
    return ((x & 1) + ((x >> 1) & 1) + Q - ((x >> 2) & 1) - ((x >> 3) & 1)) % Q;
  });
}

// Algorithms 13 and 16, of d || z.
function mlkemKeyGen(seed) {
  const g = hash('sha3-512', seed.subarray(0, 32), Buffer.of(RANK));
  const rho = g.subarray(0, 32), sigma = g.subarray(32);
  const s = vector((i) => ntt(sampleCbd(sigma, i)));
  const e = vector((i) => ntt(sampleCbd(sigma, RANK + i)));
  const t = vector((i) => add(dot(vector((j) => sampleNtt(rho, j, i)), s), e[i]));
  return { s, z: seed.subarray(32, 64), ek: Buffer.concat([...t.map((f) => byteEncode(12, f)), rho]) };
}

// Algorithm 14, K-PKE.Encrypt.
function pkeEncrypt(ek, m, r) {
  const t = decodeVector(12, ek), rho = ek.subarray(1152);
  const y = vector((i) => ntt(sampleCbd(r, i)));
  const u = vector((i) => add(inverseNtt(dot(vector((j) => sampleNtt(rho, i, j)), y)), sampleCbd(r, RANK + i)));
  const v = add(add(inverseNtt(dot(t, y)), sampleCbd(r, 2 * RANK)), decompress(1, byteDecode(1, m)));
  return Buffer.concat([...u.map((f) => byteEncode(10, compress(10, f))), byteEncode(4, compress(4, v))]);
}

// Algorithms 15 and 18: a ciphertext that is not what its message encrypts to gives a secret
// nobody knows, so that the AEAD after it fails.
function mlkemDecaps({ s, z, ek }, c) {
  const u = decodeVector(10, c).map((f) => ntt(decompress(10, f)));
  const v = decompress(4, byteDecode(4, c.subarray(960)));
  const m = byteEncode(1, compress(1, subtract(v, inverseNtt(dot(s, u)))));
  const g = hash('sha3-512', m, hash('sha3-256', ek)), rejected = shake(256, 32, z, c);
  return crypto.timingSafeEqual(c, pkeEncrypt(ek, m, g.subarray(32))) ? g.subarray(0, 32) : rejected;
}

// ---------------------------------------------------------------- HPKE (RFC 9180, draft-ietf-hpke-pq)

const KEM = 0x647a, KEM_PUB = EK + 32, ENC = CT + 32;
const HPKE_SUITE = Buffer.from('HPKE\x64\x7a\x00\x01\x00\x02', 'latin1'); // KEM, HKDF-SHA256, AES-256-GCM

// The private key is a seed, expanded to ML-KEM's d || z and X25519's scalar.
function kemKeyPair(seed) {
  const full = shake(256, 96, seed);
  const pq = full.subarray(0, 64), x = full.subarray(64);
  return { pq: mlkemKeyGen(pq), x: privateKey('x25519', x), xPub: publicOf('x25519', x) };
}

// The combiner is that of X-Wing, whose label is the six characters \.//^\.
function kemDecaps(pair, enc) {
  const ctX = enc.subarray(CT);
  const ssX = x25519(pair.x, ctX, 'decrypt');
  return hash('sha3-256', mlkemDecaps(pair.pq, enc.subarray(0, CT)), ssX, ctX, pair.xPub, Buffer.from('\\.//^\\'));
}

// hpkeOpen opens in base mode, with empty AAD, as sequence number 0: the nonce is the base nonce.
function hpkeOpen(pair, info, sealed) {
  const extract = (salt, label, ikm) =>
    crypto.createHmac('sha256', salt).update('HPKE-v1').update(HPKE_SUITE).update(label).update(ikm).digest();
  // One block of HKDF-Expand is enough for both.
  const expand = (prk, label, context, n) => crypto.createHmac('sha256', prk)
    .update(Buffer.of(n >> 8, n & 255)).update('HPKE-v1').update(HPKE_SUITE).update(label).update(context)
    .update(Buffer.of(1)).digest().subarray(0, n);
  const context = Buffer.concat([Buffer.of(0), extract('', 'psk_id_hash', ''), extract('', 'info_hash', info)]);
  const secret = extract(kemDecaps(pair, sealed.subarray(0, ENC)), 'secret', '');
  const key = expand(secret, 'key', context, 32), nonce = expand(secret, 'base_nonce', context, 12);
  return aeadOpen('aes-256-gcm', key, nonce, sealed.subarray(ENC), Buffer.alloc(0));
}

// ---------------------------------------------------------------- section 3: identities

function readIdentity(text) {
  const lines = text.split('\n');
  check(lines.shift() === 'unibus-identity-1' && lines.pop() === '', 'malformed', 'identity file');
  while (lines[0]?.startsWith('#')) lines.shift();
  check(lines.length === 1, 'malformed', 'identity file');
  const r = new Reader(strict(lines[0]));
  const signPub = publicOf('ed25519', r.take(32));
  const keys = [];
  let last = -1n;
  do {
    check(r.u16() === KEM, 'malformed', 'KEM of the identity');
    const cardSeq = r.u64(), seed = r.prefixed(2);
    check(cardSeq > last && seed.length === 32, 'malformed', 'key of the identity');
    last = cardSeq;
    keys.push(kemKeyPair(seed));
  } while (r.left > 0);
  // The newest key first: it is the one most likely asked for.
  return { id: sha256(signPub), keys: keys.reverse() };
}

function readCard(raw, busId) {
  check(raw.length <= 2048, 'malformed', 'card too large');
  const r = new Reader(raw);
  r.type(1);
  const signPub = r.take(32), bus = r.take(32), transportPub = r.take(32);
  check(r.u16() === KEM, 'malformed', 'KEM of a card');
  const kemPub = r.prefixed(2), seq = r.u64(), notBefore = r.time(), notAfter = r.time();
  const signed = raw.subarray(0, r.at), sig = r.take(64);
  r.end();
  check(seq >= 1n && notAfter > notBefore && notAfter - notBefore <= 90n * 86400n, 'malformed', 'life of a card');
  // One has to be able to seal to it: FIPS 203 wants coefficients below q, X25519 no point of small order.
  const sound = kemPub.length === KEM_PUB && decodeVector(12, kemPub).every((f) => f.every((c) => c < Q));
  check(sound, 'malformed', 'HPKE key of a card');
  x25519(privateKey('x25519', Buffer.alloc(32, 1)), kemPub.subarray(EK), 'weak_key');
  checkKey(signPub);
  checkKey(transportPub);
  verify(signPub, 'card', signed, sig);
  check(bus.equals(busId), 'wrong_bus');
  return { id: sha256(signPub), signPub, hash: H('card-hash', raw) };
}

// ---------------------------------------------------------------- section 4: rooms

const ENCRYPT = 1, PERSIST = 2, HISTORY = 4, PAD = 8;
const WRITER = 2, ADMIN = 3, OWNER = 4;

// readRecord is step 1 of "Accepting a record": everything that a record and its member list
// say about themselves.
function readRecord(raw, list) {
  check(raw.length <= 16384, 'malformed', 'record too large');
  const r = new Reader(raw);
  r.type(2);
  const rec = {
    roomId: r.take(32), epoch: r.u64(), prev: r.take(32), created: r.time(), notAfter: r.time(), salt: r.take(16),
    suite: r.u8(), flags: r.u8(), rotate: r.u32(), maxAge: r.u32(), grace: r.u32(), nameCt: r.prefixed(2), historyCt: r.prefixed(1),
    authorities: r.list(2, 33, 16, 32, (a) => ({ signPub: a.take(32), role: a.u8() })),
    membersHash: r.take(32),
    cut: r.list(2, 56, 256, 48, (c) => ({ id: c.take(32), session: c.take(16), last: c.u64() })),
    resolves: r.list(1, 32, 4, 32, (h) => h.take(32)),
    commitment: r.take(32), signer: r.take(32),
  };
  const signed = raw.subarray(0, r.at), sig = r.take(64);
  r.end();
  rec.hash = H('record-hash', raw);
  check(rec.notAfter > rec.created && rec.notAfter - rec.created <= 90n * 86400n, 'malformed', 'life of a record');
  check(rec.grace <= 30, 'policy', 'grace');

  // Policy.
  const encrypted = (rec.flags & ENCRYPT) !== 0, first = rec.epoch === 0n;
  check(rec.suite <= 2 && rec.flags < 16, 'policy', 'unknown suite or flag');
  check(encrypted === (rec.suite !== 0) && (encrypted || !(rec.flags & HISTORY)), 'policy', 'suite and flags disagree');

  // Sizes. A history has a key in it, 32 bytes.
  check(rec.historyCt.length === (rec.flags & HISTORY && !first ? NONCE + 32 + TAG : 0), 'malformed', 'history');
  const name = rec.nameCt.length - (encrypted ? NONCE + TAG : 0);
  check(name >= 1 && name <= 200, 'malformed', 'length of the name');
  check(encrypted !== rec.commitment.equals(ZERO32), 'malformed', 'commitment');
  if (first) {
    check(rec.roomId.equals(ZERO32) && rec.prev.equals(ZERO32), 'malformed', 'room and prev of a first record');
    check(rec.cut.length + rec.resolves.length === 0, 'malformed', 'cut or resolves of a first record');
  }

  // Members.
  check(H('members', list).equals(rec.membersHash), 'members_mismatch');
  const m = new Reader(list);
  rec.members = m.list(4, 97, 1024, 32, (x) => ({ id: x.take(32), cardHash: x.take(32), role: x.u8(), sealedHash: x.take(32) }));
  m.end();
  check(rec.members.every((x) => x.role >= 1 && x.role <= OWNER), 'malformed', 'role');
  check(rec.members.every((x) => encrypted !== x.sealedHash.equals(ZERO32)), 'malformed', 'hash of a sealed key');
  const agrees = ({ signPub, role }) => role >= ADMIN && memberOf(rec, sha256(signPub))?.role === role;
  check(rec.authorities.every(agrees), 'members_mismatch', 'authority');
  check(rec.members.filter((x) => x.role >= ADMIN).length === rec.authorities.length, 'members_mismatch', 'authorities');

  for (const { signPub } of rec.authorities) checkKey(signPub);
  checkKey(rec.signer);
  verify(rec.signer, 'record', signed, sig);
  return rec;
}

const memberOf = (rec, id) => rec.members.find((m) => m.id.equals(id));
const mayWrite = (rec, id) => (memberOf(rec, id)?.role ?? 0) >= WRITER;
const authorityOf = (rec, signPub) => rec.authorities.find((a) => a.signPub.equals(signPub))?.role;

// accept is steps 2 to 4: the chain and what its authorities may do. It gives back false for
// what is in the chain already, as pages that overlap have it.
function accept(room, rec) {
  if (rec.epoch === 0n) {
    check(rec.hash.equals(room.id), 'misrouted', 'first record of another room');
    if (room.chain.length > 0) return false;
    check(authorityOf(rec, rec.signer) === OWNER, 'not_authority', 'the first record');
    return true;
  }
  check(rec.roomId.equals(room.id), 'misrouted', 'record of another room');
  check(rec.epoch <= BigInt(room.chain.length), 'gap');
  const known = room.chain[Number(rec.epoch)];
  if (known?.hash.equals(rec.hash)) return false;
  const before = room.chain[Number(rec.epoch) - 1];
  check(rec.prev.equals(before.hash), 'fork', 'after a record that is not in the chain');
  checkChange(before, rec);
  if (known) {
    const named = known.resolves.some((h) => h.equals(rec.hash)) || rec.resolves.some((h) => h.equals(known.hash));
    throw new Refused(known.signer.equals(rec.signer) && !named ? 'equivocation' : 'fork', 'another successor');
  }
  return true;
}

function checkChange(head, next) {
  const role = authorityOf(head, next.signer);
  check(role !== undefined, 'not_authority');
  check(next.suite === head.suite, 'transition', 'suite'); // the encrypt flag goes with it
  check(next.authorities.some((a) => a.role === OWNER), 'transition', 'no owner');
  const loses = ({ id }) => mayWrite(head, id) && !mayWrite(next, id);
  check(next.cut.every(loses), 'transition', 'cut of who keeps or never had the right');
  if (role === OWNER) return;
  const fixed = (r) => JSON.stringify([r.flags, r.rotate, r.maxAge, r.grace, r.authorities]);
  check(fixed(head) === fixed(next), 'transition', 'policy or authorities, by an admin');
  check(next.resolves.length === 0, 'transition', 'resolves, by an admin');
}

const keyContext = (rec) => [rec.roomId, u64(rec.epoch)];

// checkedKey gives back the key if it is the one that the record commits to.
function checkedKey(rec, key) {
  check(KDF(key, rec.salt, 'commit', keyContext(rec), 32).equals(rec.commitment), 'key_mismatch');
  return key;
}

// openSealed opens the own entry. The server hands out the newest copy that there is: either the signed one, of
// sealed_hash, or one that was sealed again to the card that it names, which the commitment alone vouches for.
function openSealed(rec, me, { blob, card }) {
  const entry = memberOf(rec, me.id);
  check(entry, 'not_member', 'a sealed key for who is no member');
  check(card || H('sealed-hash', blob).equals(entry.sealedHash), 'sealed_mismatch');
  check(blob.length === ENC + 32 + TAG, 'decrypt', 'length of a sealed key');
  const info = Buffer.concat([LP('seal'), ...keyContext(rec), rec.prev, rec.salt, me.id, card ?? entry.cardHash, rec.commitment]);
  for (const pair of me.keys) {
    const key = hpkeOpen(pair, info, blob);
    if (key) return checkedKey(rec, key);
  }
  throw new Refused('decrypt', 'sealed key');
}

// openInRecord opens name_ct and history_ct.
function openInRecord(rec, word, ct) {
  const key = KDF(rec.key, rec.salt, word, keyContext(rec), 32);
  return openSuite(rec.suite, key, ct.subarray(0, NONCE), ct.subarray(NONCE), rec.prev);
}

// openRoom is step 5, for the whole chain at once: from the head back, since an epoch's key is
// sealed for the reader or stands in the history of the record after it.
function openRoom(room, me, report) {
  const { chain } = room;
  for (let e = chain.length - 1; e >= 0; e--) {
    const rec = chain[e], next = chain[e + 1];
    if (rec.suite === 0) continue;
    for (const sealed of room.sealed[e] ?? []) {
      report(`sealed key of epoch ${e}`, () => { rec.key = openSealed(rec, me, sealed); });
    }
    if (!rec.key && next?.key && next.historyCt.length > 0) {
      report(`history in epoch ${e + 1}`, () => {
        rec.key = checkedKey(rec, openInRecord(next, 'history', next.historyCt));
      });
    }
  }
  // A record whose name does not open, or changed by who may not do that, is refused with all that follow.
  for (let e = 0; e < chain.length; e++) {
    const rec = chain[e], before = chain[e - 1];
    if (rec.suite !== 0 && !rec.key) continue;
    const ok = report(`record of epoch ${e}`, () => {
      const name = (rec.suite === 0 ? rec.nameCt : openInRecord(rec, 'name', rec.nameCt)).toString('latin1');
      check(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(name), 'malformed', 'name');
      check(!before?.name || before.name === name || authorityOf(before, rec.signer) === OWNER, 'transition', 'name, by an admin');
      rec.name = name;
    });
    if (!ok) chain.length = e;
  }
}

// ---------------------------------------------------------------- section 5: frames

const HEADER = 138, MAX_FRAME = 262144, MAX_INNER = 261926, WINDOW = 1024n;

// openFrame goes through the steps of "Opening". It gives back undefined for a duplicate.
function openFrame(subject, data, world) {
  // 1. Form. The room is the one of the subject, since that is what a client subscribed to.
  check(data.length <= MAX_FRAME, 'malformed', 'frame too large');
  const r = new Reader(data);
  check(r.take(2).toString('latin1') === 'UB', 'malformed', 'magic');
  r.type(3);
  const suite = r.u8(), flags = r.u8(), roomId = r.take(32), epoch = r.u64(), tag = r.take(8), sender = r.take(32);
  const session = r.take(16), seq = r.u64(), nonce = r.take(NONCE), ct = r.prefixed(4), sig = r.take(64);
  r.end();
  const header = data.subarray(0, HEADER);
  check(ct.length <= MAX_INNER + (suite === 0 ? 0 : TAG), 'malformed', 'inner part too large');
  const [ub, , , roomToken, senderToken, ...rest] = subject.split('.');
  const room = world.rooms.find((x) => token(x.id) === roomToken);
  check(ub === 'ub' && rest.length === 0 && room, 'misrouted', 'subject of no room');
  check(room.chain.length > 0, 'epoch_unknown', 'no record of the room');
  check(suite === room.chain[0].suite, 'policy', 'suite');

  // 2. Where it came.
  check(roomId.equals(room.id) && token(sender) === senderToken, 'misrouted');

  // 3. The epoch.
  check(epoch < BigInt(room.chain.length), 'epoch_unknown');
  const rec = room.chain[Number(epoch)], head = room.chain.at(-1);
  check(tag.equals(rec.hash.subarray(0, 8)), 'fork', 'epoch tag');
  check(flags === rec.flags, 'policy', 'flags');

  // 4. The sender. When the next epoch was accepted is not in a recording, so grace_s cannot be checked.
  check(mayWrite(rec, sender), 'not_member');
  if (suite !== 0 && !rec.key && !memberOf(rec, world.me)) return undefined; // before the reader's time
  const bound = room.chain.slice(Number(epoch) + 1).find((x) => !mayWrite(x, sender));
  if (bound) {
    const cut = bound.cut.find((c) => c.id.equals(sender) && c.session.equals(session));
    check(cut, 'not_member', 'session is not in the cut');
    check(seq <= cut.last, 'epoch_closed', 'after the cut');
  }
  const signPub = world.signers.get(sender.toString('hex'));
  check(signPub, 'not_found', 'no card of the sender');

  // 5. The window. Memory is no matter here, so no session is ever forgotten.
  const frameHash = H('frame-hash', header, sha256(ct));
  const name = [room.id, sender, session].map((x) => x.toString('hex')).join();
  const window = world.windows.get(name) ?? { top: seq, seen: new Map() };
  const twin = window.seen.get(seq);
  if (twin?.equals(frameHash)) return undefined;
  check(seq + WINDOW > window.top, 'replay');

  // 6. The AEAD, then the signature under the key of the sender's card, then what is inside.
  let inner = ct;
  check(suite === 0 || rec.key, 'decrypt', 'no key of this epoch');
  if (suite !== 0) {
    const key = KDF(rec.key, rec.hash, 'frame-key', [Buffer.of(suite), sender, session], 32);
    inner = openSuite(suite, key, nonce, ct, header);
  }
  verify(signPub, 'frame', frameHash, sig);
  check(!twin, 'equivocation', 'another frame with this number');
  const { sentUs, records } = readInner(inner, (flags & PAD) !== 0);

  // 7. Live frames are of now.
  if (!(rec.flags & head.flags & PERSIST)) {
    const now = BigInt(world.now) * 1000000n;
    check(sentUs >= now - 300000000n, 'stale');
    check(sentUs <= now + 120000000n, 'clock_skew');
  }
  window.seen.set(seq, frameHash);
  if (seq > window.top) window.top = seq;
  world.windows.set(name, window);
  return { session: name, seq, lines: records.map((x) => line(nameOf(room), epoch, sender, seq, x)) };
}

function readInner(inner, padded) {
  const r = new Reader(inner);
  const sentUs = r.time(MAX_TIME * 1000000n + 999999n), n = r.u16(), records = [];
  check(n >= 1 && n <= 1024, 'malformed', 'number of records');
  for (let i = 0; i < n; i++) {
    const h = new Reader(r.prefixed(2)), headers = [];
    check(h.bytes.length <= 16384, 'malformed', 'headers too large');
    for (let last = Buffer.alloc(0); h.left > 0;) {
      const key = h.prefixed(1), value = h.prefixed(2);
      check(Buffer.compare(last, key) < 0, 'malformed', 'order of headers'); // an empty key is never above the last
      headers.push([key.toString(), value.toString()]);
      last = key;
    }
    records.push({ headers, body: r.prefixed(4) });
  }
  const size = r.at, padding = r.take(r.left);
  check(inner.length === (padded ? Math.min(padme(size), MAX_INNER) : size), 'malformed', 'length of the padding');
  check(padding.every((b) => b === 0), 'malformed', 'padding is not zero');
  return { sentUs, records };
}

function padme(size) {
  const log2 = (n) => 31 - Math.clz32(n);
  const e = log2(size), m = 2 ** (e - log2(e) - 1) - 1;
  return (size + m) & ~m;
}

// nameOf is the name in the head or, for who was removed, the last that could be read.
const nameOf = (room) => room.chain.findLast((rec) => rec.name)?.name;

// line has numbers up to 2^64, which JSON.stringify cannot write.
function line(name, epoch, sender, seq, { headers, body }) {
  const rest = JSON.stringify({ headers: Object.fromEntries(headers), body: body.toString('base64') });
  return `{"room":"${name}","epoch":${epoch},"sender":"${sender.toString('base64url')}","seq":${seq},${rest.slice(1)}`;
}

// ---------------------------------------------------------------- the recording

// readAnswers verifies what the control plane answered (section 7). Sealed keys are left for
// openRoom, which wants all of the chain.
function readAnswers(answers, busId, report) {
  const signers = new Map(), rooms = {};
  const roomOf = (id) => (rooms[id] ??= { id: strict(id), chain: [], sealed: [] });
  for (const { method, path, status, body } of answers) {
    if (method !== 'GET' || status !== 200) continue;
    report(path, () => {
      const url = new URL(path, 'http://node');
      const [, what, id, part, epoch] = url.pathname.split('/');
      if (what === 'cards') {
        const card = readCard(strict(body.card), busId), wanted = url.searchParams.get('hash');
        check(card.id.equals(strict(id)), 'card_mismatch', 'id');
        check(wanted === null || card.hash.equals(strict(wanted)), 'card_mismatch', 'hash');
        signers.set(card.id.toString('hex'), card.signPub); // serves for every epoch, since the id is its hash
      } else if (what === 'rooms' && part === 'records') {
        const room = roomOf(id);
        for (const { record, members } of body.records) {
          const rec = readRecord(strict(record), strict(members));
          if (accept(room, rec)) room.chain.push(rec);
        }
        const last = room.chain[body.head ?? 0];
        check(!body.hash || !last || last.hash.equals(strict(body.hash)), 'fork', 'the server has another head');
      } else if (what === 'rooms' && part === 'keys') {
        (roomOf(id).sealed[epoch] ??= []).push({ blob: strict(body.blob), card: body.card && strict(body.card) });
      }
    });
  }
  return { signers, rooms: Object.values(rooms) };
}

function main(path) {
  const recording = JSON.parse(fs.readFileSync(path, 'utf8'));
  const report = (what, f) => {
    try {
      f();
      return true;
    } catch (err) {
      // Anything else than a Refused is a mistake in here, or a recording of another shape: not to be hidden.
      console.error(`${what}: ${err instanceof Refused ? err.message : err.stack}`);
      process.exitCode = 1;
      return false;
    }
  };
  const me = readIdentity(recording.identity);
  const world = { me: me.id, ...readAnswers(recording.answers, strict(recording.bus_id), report), windows: new Map(), now: recording.now };
  for (const room of world.rooms) openRoom(room, me, report);

  const opened = [];
  recording.frames.forEach(({ subject, data }, i) => report(`frame ${i} on ${subject}`, () => {
    const frame = openFrame(subject, strict(data, 'base64'), world);
    if (frame) opened.push(frame);
  }));

  // Delivery is by seq within a session (section 5); between sessions, as they came.
  const queues = {};
  for (const f of opened) (queues[f.session] ??= []).push(f);
  for (const q of Object.values(queues)) {
    q.sort((a, b) => (a.seq < b.seq ? -1 : 1));
    q.forEach((f, i) => i > 0 && f.seq !== q[i - 1].seq + 1n && console.error(`gap before number ${f.seq} of a session`));
  }
  for (const { session } of opened) queues[session].shift().lines.forEach((text) => console.log(text));
}

main(process.argv[2]);
