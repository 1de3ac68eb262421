-- gateway/tenancy/book.py once more, for Redis; a property test keeps the two alike.
--
-- KEYS[1]  one hash for each tenant: account name -> its state in MessagePack
-- ARGV[1]  JSON: [holder, seq, ttl, now (-1: this server's clock), names, claims, demands], as in Books.claim, the
--          accounts of a demand counted from 0
-- ARGV[2]  milliseconds after which the hash may go when nobody has claimed anything
-- An account: b its beginning; rl, ra level and time of requests, rb of it taken over, rm the highest known limit; kl, ka,
--          kb, km of tokens; ms spent, mb of it taken over, mp period, mt told, ml limit told, of money.
-- A holder: ru, rh, rl used, held and limit of requests; ku, kh, kl of tokens; ph places held; mu, mh, mp of money and
--          its period.
-- Answers {now, status, the numbers of each Grant in order}; status 0 is done, 1 overtaken (no grants follow).

local MINUTE, ACTIVE, FORGET, MONEY_PARTS = 60000, 5000, 3600000, 100
local floor, max, min = math.floor, math.max, math.min

local holder, seq, ttl, now, names, claims, demands = unpack(cjson.decode(ARGV[1]))
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

local function commit(level, since, limit, used, at)
  if since > now + MINUTE then since = now end
  if used > 0 then
    if at > since then level, since = max(0, level - (at - since) * limit), at end
    level = level + used
  end
  if now > since then level, since = max(0, level - (now - since) * limit), now end
  return level, since
end

local function taken_over(base, seen, drained)
  local level = seen * MINUTE
  return max(0, level - max(0, base - drained)), max(base, level + drained)
end

local function place_of(name) return string.match(name, '^(.*)/') or '' end

local function correct(account, spent)
  local place, charged = place_of(holder), {}
  for name, other in pairs(account.holders) do
    if other.dead and other.mh > 0 and other.mp == account.mp then
      if place == '' or place_of(name) ~= place then return end
      charged[#charged + 1] = other
    end
  end
  for _, other in ipairs(charged) do other.mh = 0 end
  account.ms = spent
end

local accounts = {}
for i, packed in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  local account = packed and cmsgpack.unpack(packed)
    or {b = now, rl = 0, ra = 0, rb = 0, kl = 0, ka = 0, kb = 0, ms = 0, mb = 0, mp = -1, mt = 0, ml = 0, holders = {}}
  local before = account.holders[holder]
  if before and seq <= before.seq then return {now, 1} end
  accounts[i] = account
end

local function lowered(account, level, before, kind)
  local highest = 0
  for _, h in pairs(account.holders) do
    if not h.dead then highest = max(highest, h[kind] or 0) end
  end
  if highest < before then level = max(0, level - (before - highest) * MINUTE) end
  return level, highest
end

local function take_down(account, c)
  local own = account.holders[holder]
  local known = own ~= nil
  if not known then
    own = {seq = 0, expires = 0, seen = 0, dead = false, ru = 0, rh = 0, ku = 0, kh = 0, ph = 0, mu = 0, mh = 0, mp = -1,
      rl = 0, kl = 0}
    account.holders[holder] = own
  end
  local at = now - c.ago
  if c.rl >= 0 then
    if not known and c.rs > 0 then
      account.rl, account.ra = commit(account.rl, account.ra, c.rl, 0, now)
      local more
      more, account.rb = taken_over(account.rb, c.rs, (now - account.b) * c.rl)
      account.rl = account.rl + more
    end
    local used = max(0, c.ru - (known and own.ru or c.ra)) * MINUTE
    account.rl, account.ra = commit(account.rl, account.ra, c.rl, used, at)
  end
  if c.kl >= 0 then
    if not known and c.ks > 0 then
      account.kl, account.ka = commit(account.kl, account.ka, c.kl, 0, now)
      local more
      more, account.kb = taken_over(account.kb, c.ks, (now - account.b) * c.kl)
      account.kl = account.kl + more
    end
    local used = max(0, c.ku - (known and own.ku or c.ka)) * MINUTE
    account.kl, account.ka = commit(account.kl, account.ka, c.kl, used, at)
  end
  if own.dead then
    own.dead = false
    if own.mp == account.mp then account.ms = max(0, account.ms - own.mh) end
  end
  if c.ml >= 0 then
    if c.mp > account.mp then
      account.mp, account.ms, account.mb, account.mt, account.ml = c.mp, 0, 0, 0, c.ml
    end
    if c.mp == account.mp then
      account.ms = account.ms + max(0, c.mu - (own.mp == c.mp and own.mu or c.ma))
      local more = 0
      if c.born ~= 0 and c.born ~= account.b then more = max(0, c.mseen - account.mb) end
      more = max(more, c.mseed - account.ms)
      account.mb, account.ms = account.mb + more, account.ms + more
      if c.msure == account.ms and c.born == account.b then correct(account, c.mseed) end
      own.mu, own.mh, own.mp = c.mu, c.mh, c.mp
    end
  end
  own.rh, own.kh, own.ph = 0, 0, c.ph
  if c.rl >= 0 then own.ru, own.rh = c.ru, c.rh end
  if c.kl >= 0 then own.ku, own.kh = c.ku, c.kh end
  for name, other in pairs(account.holders) do
    if name ~= holder and other.expires < now then
      if not other.dead then
        other.dead = true
        account.rl = account.rl + other.rh * MINUTE
        account.kl = account.kl + other.kh * MINUTE
        if other.mp == account.mp then account.ms = account.ms + other.mh end
        other.ph = 0
      end
      if other.expires + FORGET < now then account.holders[name] = nil end
    end
  end
  if c.rl >= 0 then
    own.rl = c.rl
    account.rl, account.rm = lowered(account, account.rl, account.rm or 0, 'rl')
  end
  if c.kl >= 0 then
    own.kl = c.kl
    account.kl, account.km = lowered(account, account.kl, account.km or 0, 'kl')
  end
end

local function held(account)
  local r, k, p, m = 0, 0, 0, 0
  for _, h in pairs(account.holders) do
    if not h.dead then
      r, k, p = r + h.rh, k + h.kh, p + h.ph
      if h.mp == account.mp then m = m + h.mh end
    end
  end
  return r, k, p, m
end

local function free_of(account, c)
  local r, k, p, m = held(account)
  local free = {sharing = 0, r = -1, k = -1, p = -1, m = -1, spent = 0, limit = 0, affords = true, refused = false}
  for _, h in pairs(account.holders) do
    if h.seen + ACTIVE >= now then free.sharing = free.sharing + 1 end
  end
  free.sharing = max(1, free.sharing)
  if c.rl >= 0 then free.r = floor(max(0, (c.rl - r) * MINUTE - account.rl) / MINUTE) end
  if c.kl >= 0 then free.k = floor(max(0, (c.kl - k) * MINUTE - account.kl) / MINUTE) end
  if c.pl >= 0 then free.p = max(0, c.pl - p) end
  if c.ml >= 0 and c.mr == 1 then
    free.limit, free.spent = c.ml, account.ms
    free.m = max(0, c.ml - account.ms - m)
    if c.mp ~= account.mp then free.m = 0 end
    free.affords = account.ms < c.ml
  end
  return free
end

local function grant(demand, free, given)
  local requests, tokens, places, money, of = unpack(demand)
  local fits = true
  for _, i in ipairs(of) do
    local left = free[i + 1]
    if left.m >= 0 and (not left.affords or money > left.m) then
      fits = false
      if left.spent + money > left.limit or not left.affords then left.refused = true end
    end
    if (left.r >= 0 and requests > left.r) or (left.k >= 0 and tokens > left.k) or (left.p >= 0 and places > left.p) then
      fits = false
    end
  end
  if not fits then return end
  for _, i in ipairs(of) do
    local left, got = free[i + 1], given[i + 1]
    if left.r >= 0 then left.r, got.r = left.r - requests, got.r + requests end
    if left.k >= 0 then left.k, got.k = left.k - tokens, got.k + tokens end
    if left.p >= 0 then left.p, got.p = left.p - places, got.p + places end
    if left.m >= 0 then left.m, got.m = left.m - money, got.m + money end
  end
end

local function alert(account, limit, refused)
  local reached = 0
  if account.ms >= limit or (refused and account.ms * 2 >= limit) then reached = 100
  elseif account.ms * 5 >= limit * 4 then reached = 80
  elseif account.ms * 2 >= limit then reached = 50 end
  if limit > account.ml then
    account.ml = limit
    account.mt = min(account.mt, reached)
  end
  if reached <= account.mt then return 0 end
  account.mt = reached
  return reached
end

local free, given, wanted = {}, {}, {}
for i, account in ipairs(accounts) do
  local c = {}
  c.ago, c.rl, c.ru, c.ra, c.rh, c.rw, c.rs, c.kl, c.ku, c.ka, c.kh, c.kw, c.ks, c.pl, c.ph, c.pw,
    c.ml, c.mr, c.mu, c.ma, c.mh, c.mw, c.mp, c.mseen, c.born, c.mseed, c.msure = unpack(claims[i])
  wanted[i] = c
  take_down(account, c)
  free[i] = free_of(account, c)
  given[i] = {r = 0, k = 0, p = 0, m = 0}
end
for _, demand in ipairs(demands) do grant(demand, free, given) end

local answer, packed = {now, 0}, {}
for i, account in ipairs(accounts) do
  local c, left, got, own = wanted[i], free[i], given[i], account.holders[holder]
  own.seq, own.seen, own.expires = seq, now, now + ttl
  local shares = 2 * left.sharing
  if left.r >= 0 then own.rh = own.rh + got.r + min(c.rw, floor(left.r / shares)) end
  if left.k >= 0 then own.kh = own.kh + got.k + min(c.kw, floor(left.k / shares)) end
  if left.p >= 0 then own.ph = own.ph + got.p + min(c.pw, floor(left.p / shares)) end
  if left.m >= 0 then own.mh = own.mh + got.m + (left.affords and min(c.mw, floor(left.m / MONEY_PARTS)) or 0) end
  local r, k, p, m = held(account)
  local reached = 0
  if c.ml >= 0 and c.mp == account.mp then reached = alert(account, c.ml, left.refused) end
  for _, number in ipairs({
    left.sharing,
    c.rl >= 0 and own.rh or -1, account.rl, r,
    c.kl >= 0 and own.kh or -1, account.kl, k,
    c.pl >= 0 and own.ph or -1, p,
    c.ml >= 0 and own.mh or -1, account.ms, m, account.mp,
    reached,
    account.b,
  }) do answer[#answer + 1] = number end
  packed[#packed + 1] = names[i]
  packed[#packed + 1] = cmsgpack.pack(account)
end
redis.call('HSET', KEYS[1], unpack(packed))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return answer
