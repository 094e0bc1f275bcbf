-- The circuit breaker of a model and its retry budget: the twin of shared/breaker.py, which says what each
-- part is for. Put in front of every script, behind lib.lua. Its hash key.breaker(model) holds
--   state                     closed | open | half_open; nothing there is closed
--   consecutive window        failures in a row; 'slot successes failures,…' of the sliding window
--   successes failures opened since the key exists
--   streak changed until      openings in a row; ms of the last change; ms of the cool-down's end
--   probe probe_until         'id/attempt' that tries the model in half-open, and until when it may
--   source source_at other_at the worker that failed last, when, and when another one did
--   retry_at                  ms: when the retry budget is as full as if there had been no retry
-- A policy is BreakerPolicy.packed. Verdicts are 'success', 'failure', 'lost', 'fell', 'ignored'.

local SLOTS = 10
local MAX_DOUBLINGS = 30
local BREAKER_TEXTS = {state = 'closed', window = '', probe = '', source = ''}
local BREAKER_FIELDS = {'state', 'consecutive', 'window', 'successes', 'failures', 'opened', 'streak',
  'changed', 'until', 'probe', 'probe_until', 'source', 'source_at', 'other_at', 'retry_at'}

local function unpack_policy(packed)
  local n = {}
  for number in string.gmatch(packed, '%S+') do n[#n + 1] = tonumber(number) end
  return {threshold = n[1], cooldown = n[2], longest = n[3], rate = n[4], volume = n[5], window = n[6],
    retry_ratio = n[7], retry_floor = n[8]}
end

local function load_breaker(model)
  local values = redis.call('HMGET', key.breaker(model), unpack(BREAKER_FIELDS))
  local b = {model = model, stored = {}}
  for i, field in ipairs(BREAKER_FIELDS) do
    b.stored[field] = values[i] or nil
    if BREAKER_TEXTS[field] then
      b[field] = values[i] or BREAKER_TEXTS[field]
    else
      b[field] = tonumber(values[i] or 0)
    end
  end
  return b
end

-- The slots of the sliding window, the oldest first: {number, successes, failures}.
local function slots_of(b)
  if not b.slots then
    b.slots = {}
    for n, good, bad in string.gmatch(b.window, '(%d+) (%d+) (%d+)') do
      b.slots[#b.slots + 1] = {tonumber(n), tonumber(good), tonumber(bad)}
    end
  end
  return b.slots
end

local function packed_slots(slots)
  local out = {}
  for i, slot in ipairs(slots) do out[i] = string.format('%.0f %.0f %.0f', unpack(slot)) end
  return table.concat(out, ',')
end

-- Write what has changed. A breaker that has closed wakes everybody who waits for it. Returns the old and
-- the new state, '' where it is the same.
local function save_breaker(b)
  local changes = {}
  if b.slots then b.window = packed_slots(b.slots) end
  for _, field in ipairs(BREAKER_FIELDS) do
    local value = BREAKER_TEXTS[field] and b[field] or int(b[field])
    if value ~= (b.stored[field] or BREAKER_TEXTS[field] or '0') then
      changes[#changes + 1] = field
      changes[#changes + 1] = value
    end
  end
  if #changes == 0 then return '' end
  redis.call('HSET', key.breaker(b.model), unpack(changes))
  keep(key.breaker(b.model), HORIZON)
  local old = b.stored.state or 'closed'
  if old == b.state then return '' end
  if b.state == 'closed' then redis.call('PUBLISH', key.wake(b.model), '1') end
  return old .. ' ' .. b.state
end

local function refresh_breaker(b, now)
  if b.state == 'open' and now >= b['until'] then
    b.state, b.changed, b.probe = 'half_open', b['until'], ''
  end
end

local function breaker_wait(b, now)
  refresh_breaker(b, now)
  if b.state == 'closed' then return 0 end
  if b.state == 'open' then return b['until'] - now end
  if b.probe == '' then return 0 end
  return math.max(0, b.probe_until - now)
end

local function begin_probe(b, now, holder, lease)
  if b.state == 'half_open' then b.probe, b.probe_until = holder, now + lease end
end

local function renew_probe(b, now, holder, lease)
  if b.probe ~= '' and b.probe == holder then b.probe_until = now + lease end
end

local function cooldown(p, streak)
  if streak == 0 then return 0 end
  return math.min(p.longest, p.cooldown * 2 ^ math.min(streak - 1, MAX_DOUBLINGS))
end

local function volume(b)
  local good, bad = 0, 0
  for _, slot in ipairs(slots_of(b)) do
    good, bad = good + slot[2], bad + slot[3]
  end
  return good, bad
end

local function count_outcome(b, p, now, ok, source)
  local number, slots = math.floor(now / math.floor(p.window / SLOTS)), slots_of(b)
  local last = slots[#slots]
  if not last or last[1] ~= number then
    local kept = {}
    last = {number, 0, 0}
    for _, slot in ipairs(slots) do
      if slot[1] == number then
        last = slot
      elseif slot[1] > number - SLOTS and slot[1] < number then
        kept[#kept + 1] = slot
      end
    end
    kept[#kept + 1] = last
    b.slots = kept
  end
  local which = ok and 2 or 3
  last[which] = last[which] + 1
  if ok then
    b.consecutive = 0
    return
  end
  b.consecutive = b.consecutive + 1
  if b.source ~= '' and b.source ~= source then b.other_at = b.source_at end
  b.source, b.source_at = source, now
end

local function trips(b, p, now, workers)
  if workers > 1 and not (b.other_at > 0 and now - b.other_at <= p.window) then return false end
  local good, bad = volume(b)
  local many = good + bad >= p.volume and bad >= p.rate * (good + bad)
  return b.consecutive >= p.threshold or many
end

local function open_breaker(b, p, now)
  b.streak = b.streak + 1
  b.opened = b.opened + 1
  b.state, b.changed, b.probe = 'open', now, ''
  b['until'] = now + cooldown(p, b.streak)
end

local function close_breaker(b, now)
  b.state, b.changed, b.probe = 'closed', now, ''
  b.consecutive, b.slots = 0, {}
  b.source, b.source_at, b.other_at = '', 0, 0
end

local function record_verdict(b, p, now, holder, verdict, source, workers)
  refresh_breaker(b, now)
  local probing = b.state == 'half_open' and b.probe ~= '' and b.probe == holder
  if verdict == 'ignored' and probing then b.probe = '' end
  if verdict == 'ignored' or (verdict == 'fell' and not probing) then return end
  local ok = verdict == 'success'
  if ok then
    b.successes = b.successes + 1
  elseif verdict ~= 'fell' then
    b.failures = b.failures + 1
  end
  if b.state == 'closed' then
    count_outcome(b, p, now, ok, source)
    if not ok and trips(b, p, now, workers) then
      if now - b.changed >= cooldown(p, b.streak) then b.streak = 0 end
      open_breaker(b, p, now)
    end
  elseif probing and ok then
    close_breaker(b, now)
  elseif probing or (b.state == 'half_open' and verdict == 'lost' and workers < 2) then
    open_breaker(b, p, now)
  end
end

local function reset_breaker(b, now)
  close_breaker(b, now)
  b.streak = 0
end

-- How long (ms) a retry must wait for its turn in the retry budget, which takes the turn. A generic cell
-- rate algorithm (ITU-T I.371): `retry_floor` at once, then as many a window as floor and ratio allow.
local function retry_wait(b, p, now)
  local good, bad = volume(b)
  local interval = p.window / (p.retry_floor + p.retry_ratio * (good + bad))
  local at = math.max(b.retry_at, now)
  b.retry_at = math.floor(at + interval)
  return math.max(0, math.ceil(at - now - p.retry_floor * interval))
end
