--- include: lib/base
-- What tenants make Redis hold, put in front of all other parts. Counted by when it goes, so that nothing has to
-- look for what has expired.
--   key.bytes(tenant)   hash: bytes by the second (Unix) in which they go, `total`: their sum, `next`: the first second
-- A job counts with JOB_BYTES and what is written for it until its deadline + retention; once it has ended with what
-- it keeps, for its retention (`finish`). Its record says with how much, in `bytes`; a job that an older version
-- made has no such field, and counts from its end on. Constants are measured: tests/shared/store/test_storage.py.
--   GRID, RETENTION     seconds, filled in by Python

local JOB_BYTES, ENDED_BYTES, REFERRING_BYTES = 1130, 1850, 800
local LOG_BYTES, LOG_ROOM, EVENT_BYTES = 4700, 3500, 30  -- A log takes the first at once, and has room in it.
local IDEMPOTENCY_BYTES, RESULT_BYTES, DELIVERY_BYTES = 220, 300, 2400


local function seconds_now() return math.floor(now_ms() / 1000) end

-- The second in which what lives from one second to another is counted as gone: the end, rounded up to a grid that is
-- the coarser the longer the life, so that a tenant has a few hundred of them.
local function going(from, to)
  local width = GRID
  while to - from > 128 * width do width = 2 * width end
  return math.ceil(to / width) * width
end

-- When a job that has not ended goes, and when one that has.
local function job_going(job) return going(job.created / 1000, job.deadline / 1000 + RETENTION) end
local function ended_going(finished) return going(finished / 1000, finished / 1000 + RETENTION) end

-- What a log takes whose events have so many bytes; nil: no log.
local function log_bytes(said) return said and LOG_BYTES + math.max(0, said - LOG_ROOM) or 0 end

-- What this call adds, by tenant: `sums` by second, `added`: together.
local ledgers = {}

local function ledger_of(tenant)
  local ledger = ledgers[tenant]
  if not ledger then
    ledger = {sums = {}, added = 0, key = key.bytes(tenant)}
    ledgers[tenant] = ledger
  end
  return ledger
end

-- Count so many bytes more until then. What should have gone by now is counted no more.
local function count_bytes(tenant, second, bytes)
  if second <= seconds_now() then return end
  local ledger = ledger_of(tenant)
  ledger.sums[second] = (ledger.sums[second] or 0) + bytes
  ledger.added = ledger.added + bytes
end

-- Take off what has gone. Returns what is left, and the next second in which some goes.
local function sum_up(k, now)
  local all, gone, total, first = redis.call('HGETALL', k), {}, 0
  for i = 1, #all, 2 do
    local second = tonumber(all[i])
    if second and second <= now then
      gone[#gone + 1] = all[i]
    elseif second then
      total, first = total + tonumber(all[i + 1]), math.min(first or second, second)
    end
  end
  if #gone > 0 then redis.call('HDEL', k, unpack(gone)) end
  return total, first or 0
end

-- Look up what is written down of a tenant: its total, and the sums of these seconds.
local function read_ledger(ledger, now, ...)
  local values = redis.call('HMGET', ledger.key, 'total', 'next', ...)
  ledger.total, ledger.next, ledger.known = tonumber(values[1] or 0), tonumber(values[2] or 0), {}
  if ledger.next > 0 and ledger.next <= now then ledger.total, ledger.next = sum_up(ledger.key, now) end
  for i, second in ipairs({...}) do ledger.known[second] = values[i + 2] or '' end
end

-- What a tenant holds, with what this call has added; `...`: the seconds to which its caller is about to add.
local function held_bytes(tenant, now, ...)
  local ledger = ledger_of(tenant)
  if not ledger.known then read_ledger(ledger, now, ...) end
  return ledger.total + ledger.added
end

-- The seconds of a ledger in which something changes.
local function changed_seconds(ledger)
  local seconds = {}
  for second, bytes in pairs(ledger.sums) do
    if bytes ~= 0 then seconds[#seconds + 1] = second end
  end
  return seconds
end

-- Write down what this call has counted.
local function write_ledgers()
  for _, ledger in pairs(ledgers) do
    local changes, fresh, seconds = {}, false, changed_seconds(ledger)
    if #seconds > 0 and not ledger.known then read_ledger(ledger, seconds_now(), unpack(seconds)) end
    for _, second in ipairs(seconds) do
      local name, bytes = int(second), ledger.sums[second]
      local before = ledger.known[second] or redis.call('HGET', ledger.key, name) or ''
      fresh = fresh or before == ''
      changes[#changes + 1] = name
      changes[#changes + 1] = tonumber(before == '' and 0 or before) + bytes
      ledger.total = ledger.total + bytes
      ledger.next = math.min(ledger.next > 0 and ledger.next or second, second)
    end
    if #changes > 0 then
      redis.call('HSET', ledger.key, 'total', ledger.total, 'next', ledger.next, unpack(changes))
      if fresh then redis.call('EXPIRE', ledger.key, HORIZON) end
    end
  end
  ledgers = {}
end

-- Milliseconds until a tenant that holds `left` bytes holds less than `most`.
local function until_room(k, left, most, now)
  local all, seconds, sums = redis.call('HGETALL', k), {}, {}
  for i = 1, #all, 2 do
    local second = tonumber(all[i])
    if second then
      seconds[#seconds + 1] = second
      sums[second] = tonumber(all[i + 1])
    end
  end
  table.sort(seconds)
  for _, second in ipairs(seconds) do
    left = left - sums[second]
    if left < most then return math.max(1, second - now) * 1000 end
  end
  return 0
end
