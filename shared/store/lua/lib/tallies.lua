--- include: lib/base, lib/storage
-- What many jobs of one call add to or take away from the same keys, until `write_tallies` writes it.

local MOST_COUNTED = 1e12  -- Of one job: what an engine says of itself may be anything.

local tallies, leavers, doomed, announced = {}, {}, {}, {}

-- The sums that are added to fields of a hash that lives for so long; each field's name ends with `suffix`.
local function tally(k, seconds, suffix)
  local name = k .. suffix
  local sums = tallies[name]
  if not sums then
    sums = {}
    tallies[name] = sums
    tallies[#tallies + 1] = {k = k, seconds = seconds, suffix = suffix, sums = sums}
  end
  return sums
end

-- Take a member out of a sorted set.
local function leave(k, member)
  leavers[k] = leavers[k] or {}
  table.insert(leavers[k], member)
end

-- Delete a key, of which this call reads nothing any more.
local function doom(k) doomed[#doomed + 1] = k end

-- Tell a process that waits for it how a job ended: one message for all the jobs of a call. Processes of versions before
-- `REPLY_PREFIX` get a message each.
local function announce(home, message)
  if string.sub(home, 1, #REPLY_PREFIX) ~= REPLY_PREFIX then
    redis.call('PUBLISH', key.ended(home), message)
    return
  end
  local messages = announced[home] or {}
  announced[home] = messages
  messages[#messages + 1] = #message .. ' '
  messages[#messages + 1] = message
end

-- Every script that ends jobs or counts ends with this.
local function write_tallies()
  for _, counts in ipairs(tallies) do
    local fresh = false
    for field, n in pairs(counts.sums) do
      fresh = redis.call('HINCRBY', counts.k, field .. counts.suffix, n) == n or fresh
    end
    if fresh then redis.call('EXPIRE', counts.k, counts.seconds) end
  end
  for k, members in pairs(leavers) do
    in_pieces(members, function(...) redis.call('ZREM', k, ...) end)
  end
  for home, messages in pairs(announced) do redis.call('PUBLISH', key.ended(home), table.concat(messages)) end
  in_pieces(doomed, function(...) redis.call('DEL', ...) end)
  if next(ledgers) then write_ledgers() end
end

local function add(sums, field, n)
  if n > 0 then sums[field] = (sums[field] or 0) + math.floor(math.min(n, MOST_COUNTED) + 0.5) end
end
