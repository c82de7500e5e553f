-- HMAC-SHA256 by FFI to libcrypto's SHA256_* with the keyed inner/outer state precomputed per
-- api key (the one-shot HMAC() of OpenSSL 3 costs several times more).
local ffi = require "ffi"
local bit = require "bit"
ffi.cdef [[
typedef struct { unsigned int h[8]; unsigned int Nl, Nh; unsigned int data[16]; unsigned int num, md_len; } COMPARE_SHA256_CTX;
int SHA256_Init(COMPARE_SHA256_CTX *c);
int SHA256_Update(COMPARE_SHA256_CTX *c, const void *data, size_t len);
int SHA256_Final(unsigned char *md, COMPARE_SHA256_CTX *c);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]
local C = ffi.load("libcrypto.so.3")
local size = ffi.sizeof("COMPARE_SHA256_CTX")
local ctx = ffi.new("COMPARE_SHA256_CTX")
local md = ffi.new("unsigned char[32]")
local want = ffi.new("unsigned char[32]")
local find, byte, sub, copy = string.find, string.byte, string.sub, ffi.copy
local floor, abs = math.floor, math.abs
local M, keys = {}, {}
local BODY = '{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}'

local function keyed(secret)
  if #secret > 64 then error("secret longer than a block") end
  local out = {}
  for i, x in ipairs { 0x36, 0x5c } do
    local b = ffi.new("unsigned char[64]")
    ffi.fill(b, 64, x)
    for j = 1, #secret do b[j - 1] = bit.bxor(x, byte(secret, j)) end
    local c = ffi.new("COMPARE_SHA256_CTX")
    C.SHA256_Init(c); C.SHA256_Update(c, b, 64)
    out[i] = c
  end
  return out[1], out[2]
end

function M.init(path)
  for l in io.lines(path) do
    local k, s, r = l:match("^([^,]+),([^,]+),([^,]+)$")
    local i, o = keyed(s)
    keys[k] = { inner = i, outer = o, role = r }
  end
end

local nib = {}
for i = 0, 9 do nib[48 + i] = i end
for i = 0, 5 do nib[97 + i] = 10 + i end

local function two(s, i)
  local a, b = byte(s, i, i + 1)
  a, b = a - 48, b - 48
  if a < 0 or a > 9 or b < 0 or b > 9 then return nil end
  return a * 10 + b
end

local function epoch(s) -- 2026-11-23T22:20:00.123Z, seconds
  if #s ~= 24 then return nil end
  local c5, c8, c11, c14, c17, c20, c24 = byte(s, 5), byte(s, 8), byte(s, 11), byte(s, 14), byte(s, 17), byte(s, 20), byte(s, 24)
  if c5 ~= 45 or c8 ~= 45 or c11 ~= 84 or c14 ~= 58 or c17 ~= 58 or c20 ~= 46 or c24 ~= 90 then return nil end
  local y1, y2, m, d, hh, mm, ss, ms = two(s, 1), two(s, 3), two(s, 6), two(s, 9), two(s, 12), two(s, 15), two(s, 18), two(s, 21)
  if not (y1 and y2 and m and d and hh and mm and ss and ms) then return nil end
  if m < 1 or m > 12 or d < 1 or d > 31 or hh > 23 or mm > 59 or ss > 60 then return nil end
  local y = y1 * 100 + y2
  if m <= 2 then y = y - 1 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy - 719468
  return days * 86400 + hh * 3600 + mm * 60 + ss + ms / 100
end

local function verify()
  local v = ngx.var.http_authorization
  if not v or #v > 300 then return nil end
  -- HMAC-SHA256 apiKey=…, date=…, salt=…, signature=…
  if sub(v, 1, 19) ~= "HMAC-SHA256 apiKey=" then return nil end
  local p = find(v, ", date=", 20, true)
  if not p then return nil end
  local key, date = sub(v, 20, p - 1), sub(v, p + 7, p + 30)
  if sub(v, p + 31, p + 37) ~= ", salt=" or sub(v, p + 70, p + 81) ~= ", signature=" or #v ~= p + 145 then return nil end
  local salt, sig = sub(v, p + 38, p + 69), sub(v, p + 82)
  local k = keys[key]
  if not k then return nil end
  local t = epoch(date)
  if not t or abs(ngx.now() - t) > 900 then return nil end
  for i = 1, 32 do if not nib[byte(salt, i)] then return nil end end
  for i = 0, 31 do
    local a, b = byte(sig, 2 * i + 1, 2 * i + 2)
    a, b = nib[a], nib[b]
    if not (a and b) then return nil end
    want[i] = a * 16 + b
  end
  copy(ctx, k.inner, size)
  C.SHA256_Update(ctx, date, 24)
  C.SHA256_Update(ctx, salt, 32)
  C.SHA256_Final(md, ctx)
  copy(ctx, k.outer, size)
  C.SHA256_Update(ctx, md, 32)
  C.SHA256_Final(md, ctx)
  if C.CRYPTO_memcmp(md, want, 32) ~= 0 then return nil end
  -- safe_add never evicts a live salt: a full dict refuses (fails closed)
  if not ngx.shared.salts:safe_add(salt, true, 1860) then return nil end
  return k.role
end

function M.check()
  local role = verify()
  if role then
    ngx.var.role = role
    return
  end
  ngx.status = 401
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #BODY
  ngx.print(BODY)
  return ngx.exit(401)
end

return M
