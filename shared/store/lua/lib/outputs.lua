--- include: lib/storage
-- Outputs that several jobs and webhooks refer to: written once, kept for as long as any of them.
--   key.output(id)   hash: `output`; `usage`: as it is told to who did not run; `speaks`: how many of its texts are
--                    streamed, once somebody asked; `bytes`, `going`: how it is counted
--                    (storage.lua); and by the second until which they do, how many refer to it
-- A reference is '<id> <second>'; a job's stands in its record as `output_of`, in place of `output` and, where it did
-- not run itself, of `usage`. `id` is that of the job that ran, or a digest where the result came from elsewhere.

local outputs = lazy(function()
  -- Keep an output until the last second for which somebody refers to it; nobody: no longer.
  local function retime(id, tenant, now)
    local k, last = key.output(id), 0
    for _, name in ipairs(redis.call('HKEYS', k)) do last = math.max(last, tonumber(name) or 0) end
    local values = redis.call('HMGET', k, 'bytes', 'going')
    local bytes, before = tonumber(values[1]), tonumber(values[2])
    if last == before then return end
    count_bytes(tenant, before, -bytes)
    if last <= now then
      redis.call('DEL', k)
    else
      count_bytes(tenant, last, bytes)
      redis.call('HSET', k, 'going', int(last))
      redis.call('EXPIREAT', k, int(last))
    end
  end

  -- Refer to an output until then. Returns the reference.
  local function refer(id, tenant, second)
    local k, name = key.output(id), int(second)
    redis.call('HINCRBY', k, name, 1)
    if second > tonumber(redis.call('HGET', k, 'going')) then retime(id, tenant, second - 1) end
    return id .. ' ' .. name
  end

  -- Refer to it no more.
  local function release(reference, tenant, now)
    local id, second = string.match(reference, '^(%S+) (%d+)$')
    local k = key.output(id)
    if redis.call('HEXISTS', k, second) == 0 then return end
    if redis.call('HINCRBY', k, second, -1) <= 0 then
      redis.call('HDEL', k, second)
      retime(id, tenant, now)
    end
  end

  local function write_output(id, output, usage)
    redis.call('HSET', key.output(id), 'output', output, 'usage', usage, 'bytes',
      int(RESULT_BYTES + #output + #usage), 'going', '0')
    redis.call('EXPIRE', key.output(id), HORIZON)  -- Until somebody refers to it.
  end

  -- The output and the usage that a reference stands for; nil for both where it is gone.
  local function referred(reference)
    local id = string.match(reference, '^%S+')
    local values = redis.call('HMGET', key.output(id), 'output', 'usage')
    return values[1] or nil, values[2] or nil, id
  end

  -- What a job used that took another one's result: its tokens, and nothing of the device.
  local function borrowed(usage)
    local readable, used = pcall(cjson.decode, usage)
    local out = {'"run_ms":0,"device_seconds":0,"attempts":0'}
    if readable and type(used) == 'table' then
      used.cached_tokens = used.prompt_tokens
      for _, figure in ipairs({'prompt_tokens', 'completion_tokens', 'total_tokens', 'cached_tokens'}) do
        local count = used[figure]
        if type(count) == 'number' then out[#out + 1] = '"' .. figure .. '":' .. int(count) end
      end
    end
    return '{' .. table.concat(out, ',') .. '}'
  end

  -- The output of a job that has succeeded, its usage as others are told it, and the id to refer to it by; nil where
  -- there is none. The first time the output moves out of the job's record.
  local function shareable(job_id, tenant)
    local record = key.job(job_id)
    local values = redis.call('HMGET', record, 'state', 'output', 'usage', 'output_of', 'bytes', 'finished')
    if values[1] ~= 'succeeded' then return nil end
    if values[4] then return referred(values[4]) end
    if not values[2] then return nil end
    local output, usage, now = values[2], borrowed(values[3]), seconds_now()
    write_output(job_id, output, usage)
    local reference = refer(job_id, tenant, going(now, now + math.max(1, redis.call('TTL', record))))
    redis.call('HSET', record, 'output_of', reference)
    redis.call('HDEL', record, 'output')
    if values[5] then
      redis.call('HINCRBY', record, 'bytes', -#output)
      count_bytes(tenant, ended_going(tonumber(values[6])), -#output)
    end
    return output, usage, job_id
  end

  -- A result that somebody brings along, and the id to refer to it by: written down once.
  local function brought(digest, job_id, output, usage)
    local before = redis.call('HGET', key.output(digest), 'output')
    if before == output then return digest end
    -- Another answer to the same request is nobody else's.
    local id = before and job_id or digest
    write_output(id, output, usage)
    return id
  end

  -- How many texts of an output are streamed: those that are not empty.
  local function speaks_of(id, output)
    local said = redis.call('HGET', key.output(id), 'speaks')
    if not said then
      local value, count = output ~= '' and cjson.decode(output), 0
      local texts = type(value) == 'table' and (value.choices or {value}) or {}
      for _, one in ipairs(texts) do
        if one.text and one.text ~= '' then count = count + 1 end
      end
      said = int(count)
      redis.call('HSET', key.output(id), 'speaks', said)
    end
    return tonumber(said)
  end

  return {
    refer = refer,
    release = release,
    referred = referred,
    borrowed = borrowed,
    brought = brought,
    speaks_of = speaks_of,
    shareable = shareable,
  }
end)
