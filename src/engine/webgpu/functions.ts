/**
 * Functions on single numbers in WGSL. Its own are held to little accuracy (2^-11 for a sine, 4096 units in the last
 * place for an arc tangent) and may take it that there is no NaN; these are exact to a few units wherever they run, and
 * know NaN by its bits. Calls are never constant expressions, which could not be infinite.
 */
const exponentials: Record<string, string> = {
  isNan: 'fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }',
  isInfinite: 'fn isInfinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }',
  withSign: `fn withSign(x: f32, like: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(x) & 0x7fffffffu) | (bitcast<u32>(like) & 0x80000000u));
}`,
  // 2^n p for n from -252 to 254, in two steps.
  scaled: `fn scaled(p: f32, n: i32) -> f32 {
  let half = n >> 1u;
  return p * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(n - half + 127) << 23u);
}`,
  exponential: `fn exponential(x: f32) -> f32 {
  let c = clamp(x, -105.0, 90.0);
  let n = floor(c * 1.44269504 + 0.5);
  let r = (c - n * 0.693359375) + n * 2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = p * r * r + r + 1.0;
  return select(scaled(p, i32(n)), x, isNan(x));
}`,
  logarithm: `fn logarithm(x: f32) -> f32 {
  let u = bitcast<u32>(x);
  if ((u & 0x7fffffffu) == 0u) { return bits(0xff800000u); }
  if (u == 0x7f800000u) { return x; }
  if (u > 0x7f800000u) { return bits(0x7fc00000u); }
  let tiny = u < 0x00800000u;
  let v = select(u, bitcast<u32>(x * 8388608.0), tiny);
  var e = f32(i32(v >> 23u) - select(126, 149, tiny));
  let m = bitcast<f32>((v & 0x007fffffu) | 0x3f000000u);
  let low = m < 0.707106781;
  e = select(e, e - 1.0, low);
  let f = select(m, m + m, low) - 1.0;
  let z = f * f;
  var p = 7.0376836292e-2;
  p = p * f - 1.1514610310e-1;
  p = p * f + 1.1676998740e-1;
  p = p * f - 1.2420140846e-1;
  p = p * f + 1.4249322787e-1;
  p = p * f - 1.6668057665e-1;
  p = p * f + 2.0000714765e-1;
  p = p * f - 2.4999993993e-1;
  p = p * f + 3.3333331174e-1;
  return ((p * f * z - e * 2.12194440e-4) - 0.5 * z) + f + e * 0.693359375;
}`,
  // log(1 + x) = 2 atanh(x / (2 + x)) near 0, by its series.
  logarithmOf1: `fn logarithmOf1(x: f32) -> f32 {
  if (!(abs(x) < 0.5)) { return logarithm(1.0 + x); }
  let s = x / (2.0 + x);
  let z = s * s;
  var p = 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 0.2;
  p = p * z + 1.0 / 3.0;
  return 2.0 * (s + s * z * p);
}`,
  tangentNearZero: `fn tangentNearZero(x: f32) -> f32 {
  let z = x * x;
  var p = -5.70498872745e-3;
  p = p * z + 2.06390887954e-2;
  p = p * z - 5.37397155531e-2;
  p = p * z + 1.33314422036e-1;
  p = p * z - 3.33332819422e-1;
  return x + x * z * p;
}`,
  hyperbolicTangent: `fn hyperbolicTangent(x: f32) -> f32 {
  let a = abs(x);
  if (a < 0.625) { return tangentNearZero(x); }
  return withSign(1.0 - 2.0 / (exponential(2.0 * a) + 1.0), x) + select(0.0, x, isNan(x));
}`,
  exponentialLess1: `fn exponentialLess1(x: f32) -> f32 {
  if (abs(x) < 0.5) {
    let t = tangentNearZero(0.5 * x);
    return 2.0 * t / (1.0 - t);
  }
  return exponential(x) - 1.0;
}`,
  hyperbolicSine: `fn hyperbolicSine(x: f32) -> f32 {
  let a = abs(x);
  if (a > 9.0 || isNan(x)) {
    let h = exponential(0.5 * a);
    return withSign(0.5 * h * h, x) + select(0.0, x, isNan(x));
  }
  let e = exponentialLess1(a);
  return withSign(0.5 * (e + e / (e + 1.0)), x);
}`,
  hyperbolicCosine: `fn hyperbolicCosine(x: f32) -> f32 {
  let h = exponential(0.5 * abs(x));
  let e = h * h;
  return select(0.5 * (e + 1.0 / e), 0.5 * h * h, abs(x) > 9.0);
}`,
  sigmoid: 'fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exponential(-x)); }',
  softplus: 'fn softplus(x: f32) -> f32 { return relu(x) + logarithmOf1(exponential(-abs(x))); }',
  powerOf: `fn powerOf(x: f32, y: f32) -> f32 {
  if ((bitcast<u32>(y) & 0x7fffffffu) == 0u) { return 1.0; }
  if (isNan(x) || isNan(y)) { return x + y; }
  let a = abs(x);
  if (isInfinite(y)) {
    if (a == 1.0) { return bits(0x7fc00000u); }
    return select(0.0, bits(0x7f800000u), (a > 1.0) == (y > 0.0));
  }
  if (y == 2.0) { return x * x; }
  let made = exponential(y * logarithm(a));
  if ((bitcast<u32>(x) & 0x80000000u) == 0u) { return made; }
  let half = 0.5 * y;
  let odd = floor(y) == y && floor(half) != half;
  if (x < 0.0 && !isInfinite(x) && floor(y) != y) { return bits(0x7fc00000u); }
  return select(made, -made, odd);
}`,
  errorFunction: `fn errorFunction(x: f32) -> f32 {
  let a = abs(x);
  let z = x * x;
  if (a < 1.0) {
    var p = 1.0 / 76204800.0;
    p = p * z - 1.0 / 6894720.0;
    p = p * z + 1.0 / 685440.0;
    p = p * z - 1.0 / 75600.0;
    p = p * z + 1.0 / 9360.0;
    p = p * z - 1.0 / 1320.0;
    p = p * z + 1.0 / 216.0;
    p = p * z - 1.0 / 42.0;
    p = p * z + 0.1;
    p = p * z - 1.0 / 3.0;
    return 1.128379167 * (x + x * z * p);
  }
  let t = 1.0 / (1.0 + 0.3275911 * a);
  var q = 1.061405429;
  q = q * t - 1.453152027;
  q = q * t + 1.421413741;
  q = q * t - 0.284496736;
  q = q * t + 0.254829592;
  return withSign(1.0 - q * t * exponential(-min(z, 100.0)), x) + select(0.0, x, isNan(x));
}`,
}

const trigonometry: Record<string, string> = {
  // Turned by n quarters: the sine, and for n one larger the cosine.
  sineFrom: `fn sineFrom(x: f32, quarters: i32) -> f32 {
  if (isNan(x) || isInfinite(x)) { return bits(0x7fc00000u); }
  if (abs(x) > 1.0e5) { return select(sin(x), cos(x), quarters == 1); }
  let n = floor(x * 0.636619772 + 0.5);
  let r = ((x - n * 1.5703125) - n * 4.837512969970703125e-4) - n * 7.54978995489188216e-8;
  let z = r * r;
  let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
  let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  let turn = i32(n) + quarters;
  let found = select(s, c, (turn & 1) == 1);
  return select(found, -found, (turn & 2) == 2);
}`,
  tangent: 'fn tangent(x: f32) -> f32 { return sineFrom(x, 0) / sineFrom(x, 1); }',
  arcSine: `fn arcSine(x: f32) -> f32 {
  let a = abs(x);
  if (!(a <= 1.0)) { return bits(0x7fc00000u); }
  let far = a > 0.5;
  let z = select(a * a, 0.5 * (1.0 - a), far);
  let s = select(a, sqrt(z), far);
  var p = 4.2163199048e-2;
  p = p * z + 2.4181311049e-2;
  p = p * z + 4.5470025998e-2;
  p = p * z + 7.4953002686e-2;
  p = p * z + 1.6666752422e-1;
  p = p * z * s + s;
  return withSign(select(p, 1.570796327 - 2.0 * p, far), x);
}`,
  arcCosine: `fn arcCosine(x: f32) -> f32 {
  if (x > 0.5) { return 2.0 * arcSine(sqrt(0.5 * (1.0 - min(x, 1.0)))) + select(0.0, bits(0x7fc00000u), x > 1.0); }
  if (x < -0.5) {
    let below = 3.141592654 - 2.0 * arcSine(sqrt(0.5 * (1.0 + max(x, -1.0))));
    return below + select(0.0, bits(0x7fc00000u), x < -1.0);
  }
  return 1.570796327 - arcSine(x);
}`,
  arcTangent: `fn arcTangent(x: f32) -> f32 {
  if (isNan(x)) { return x; }
  let a = abs(x);
  var begin = 0.0;
  var r = a;
  if (a > 2.414213562) {
    begin = 1.570796327;
    r = select(-1.0 / a, 0.0, isInfinite(x));
  } else if (a > 0.4142135624) {
    begin = 0.7853981634;
    r = (a - 1.0) / (a + 1.0);
  }
  let z = r * r;
  var p = 8.05374449538e-2;
  p = p * z - 1.38776856032e-1;
  p = p * z + 1.99777106478e-1;
  p = p * z - 3.33329491539e-1;
  return withSign(begin + (p * z * r + r), x);
}`,
  // The angle of the first quadrant, mirrored by the signs, which zeros have too.
  angle: `fn angle(y: f32, x: f32) -> f32 {
  if (isNan(x) || isNan(y)) { return x + y; }
  var slope = abs(y / x);
  if (isInfinite(x) && isInfinite(y)) { slope = 1.0; }
  if (y == 0.0) { slope = 0.0; } else if (x == 0.0) { slope = bits(0x7f800000u); }
  let base = arcTangent(slope);
  return withSign(select(base, 3.141592654 - base, (bitcast<u32>(x) >> 31u) == 1u), y);
}`,
  areaSine: `fn areaSine(x: f32) -> f32 {
  let a = abs(x);
  if (isNan(x)) { return x; }
  if (a > 1.0e9) { return withSign(logarithm(a) + 0.6931471806, x); }
  let z = a * a;
  return withSign(logarithmOf1(a + z / (1.0 + sqrt(z + 1.0))), x);
}`,
  areaCosine: `fn areaCosine(x: f32) -> f32 {
  if (!(x >= 1.0)) { return bits(0x7fc00000u); }
  if (x > 1.0e9) { return logarithm(x) + 0.6931471806; }
  let t = x - 1.0;
  return logarithmOf1(t + sqrt(2.0 * t + t * t));
}`,
  areaTangent: `fn areaTangent(x: f32) -> f32 {
  let a = abs(x);
  if (!(a <= 1.0)) { return bits(0x7fc00000u); }
  if (a == 1.0) { return withSign(bits(0x7f800000u), x); }
  return withSign(0.5 * logarithmOf1(2.0 * a / (1.0 - a)), x);
}`,
}

const comparisons: Record<string, string> = {
  isLess: 'fn isLess(a: f32, b: f32) -> i32 { return i32(a < b && !isNan(a) && !isNan(b)); }',
  isAtMost: 'fn isAtMost(a: f32, b: f32) -> i32 { return i32(a <= b && !isNan(a) && !isNan(b)); }',
  isEqual: 'fn isEqual(a: f32, b: f32) -> i32 { return i32(a == b && !isNan(a) && !isNan(b)); }',
  larger: 'fn larger(a: f32, b: f32) -> f32 { return select(max(a, b), a + b, isNan(a) || isNan(b)); }',
  smaller: 'fn smaller(a: f32, b: f32) -> f32 { return select(min(a, b), a + b, isNan(a) || isNan(b)); }',
  // Negative is what has bits from those of -0 to those of the negative infinity.
  relu: 'fn relu(x: f32) -> f32 { return select(x, 0.0, bitcast<u32>(x) - 0x80000000u <= 0x7f800000u); }',
  relu6: 'fn relu6(x: f32) -> f32 { return select(relu(x), 6.0, x > 6.0 && !isNan(x)); }',
  stepOf: `fn stepOf(x: f32, alpha: f32) -> f32 {
  return select(select(alpha, x, isNan(x)), 1.0, bitcast<u32>(x) - 1u < 0x7f800000u);
}`,
  isBelow0: 'fn isBelow0(x: f32) -> bool { return bitcast<u32>(x) - 0x80000001u < 0x7f800000u; }',
  signOf: 'fn signOf(x: f32) -> f32 { return select(sign(x), 0.0, isNan(x)); }',
  clipped: `fn clipped(x: f32, low: f32, high: f32) -> f32 {
  return select(select(select(x, low, x < low), high, x > high), x, isNan(x));
}`,
}

const slopes: Record<string, string> = {
  sloped: 'fn sloped(x: f32, alpha: f32) -> f32 { return select(x, alpha * x, isBelow0(x)); }',
  elu: 'fn elu(x: f32) -> f32 { return select(x, exponentialLess1(x), isBelow0(x)); }',
  selu: `fn selu(x: f32, scale: f32, scaleAlpha: f32) -> f32 {
  return select(scale * x, scaleAlpha * exponentialLess1(x), isBelow0(x));
}`,
  eluGradient: `fn eluGradient(dy: f32, y: f32) -> f32 {
  return select(dy, dy * (y + 1.0), isBelow0(y) || isNan(y));
}`,
}

const arithmetic: Record<string, string> = {
  squared: 'fn squared(x: f32) -> f32 { return x * x; }',
  squaredDifference: 'fn squaredDifference(a: f32, b: f32) -> f32 { return (a - b) * (a - b); }',
  root: 'fn root(x: f32) -> f32 { return sqrt(x); }',
  rootUnder1: 'fn rootUnder1(x: f32) -> f32 { return 1.0 / sqrt(x); }',
  quotient: 'fn quotient(a: f32, b: f32) -> f32 { return a / b; }',
  rounded: 'fn rounded(x: f32) -> f32 { return select(round(x), x, isNan(x)); }',
  // As JavaScript does it: cut towards zero, modulo 2^32, and 0 where it is infinite or not a number.
  toWhole: `fn toWhole(x: f32) -> i32 {
  if (isNan(x) || isInfinite(x)) { return 0; }
  if (abs(x) < 2147483648.0) { return i32(x); }
  let turns = floor(x * 2.3283064365386963e-10);
  return bitcast<i32>(u32(x - turns * 4294967296.0));
}`,
  // What is left of a division cut towards zero, exactly, eight bits of the quotient at a time.
  remainder: `fn remainder(a: f32, b: f32) -> f32 {
  if (isNan(a) || isNan(b) || isInfinite(a) || b == 0.0) { return bits(0x7fc00000u); }
  let x = bitcast<u32>(a) & 0x7fffffffu;
  let y = bitcast<u32>(b) & 0x7fffffffu;
  if (x < y) { return a; }
  let first = max(x >> 23u, 1u);
  let last = max(y >> 23u, 1u);
  var m = (x & 0x007fffffu) | select(0u, 0x00800000u, x >= 0x00800000u);
  let n = (y & 0x007fffffu) | select(0u, 0x00800000u, y >= 0x00800000u);
  var left = first - last;
  m = m % n;
  while (left > 0u) {
    let by = min(left, 8u);
    m = (m << by) % n;
    left -= by;
  }
  return withSign(scaled(f32(m), i32(last) - 150), a);
}`,
  modulo: `fn modulo(a: f32, b: f32) -> f32 {
  let r = remainder(a, b);
  if ((a < 0.0 && b < 0.0) || (a >= 0.0 && b >= 0.0)) { return r; }
  return remainder(r + b, b);
}`,
  // By the remainder, since quotients may be rounded up to whole numbers.
  floorOfQuotient: `fn floorOfQuotient(a: f32, b: f32) -> f32 {
  let q = a / b;
  if (isNan(q) || isInfinite(q) || isInfinite(b)) { return floor(q); }
  let r = remainder(a, b);
  let near = round((a - r) / b);
  return select(near, near - 1.0, r != 0.0 && (bitcast<u32>(a) ^ bitcast<u32>(b)) > 0x7fffffffu);
}`,
  wholeQuotient: 'fn wholeQuotient(a: i32, b: i32) -> i32 { return select(a / select(b, 1, b == 0), 0, b == 0); }',
  wholeFloor: `fn wholeFloor(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  let q = a / b;
  return select(q, q - 1, q * b != a && (a < 0) != (b < 0));
}`,
  wholeModulo: `fn wholeModulo(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  let r = a % b;
  return select(r, r + b, r != 0 && (a < 0) != (b < 0));
}`,
  wholePower: `fn wholePower(a: i32, b: i32) -> i32 {
  if (b < 0) { return select(select(0, select(1, -1, (b & 1) == 1), a == -1), 1, a == 1); }
  var made = 1;
  var square = a;
  for (var left = b; left > 0; left >>= 1u) {
    if ((left & 1) == 1) { made *= square; }
    square *= square;
  }
  return made;
}`,
}

/** By the name that calls them. */
export const functions: Readonly<Record<string, string>> = {
  ...exponentials,
  ...trigonometry,
  ...comparisons,
  ...slopes,
  ...arithmetic,
}
