# NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
require "net/http"

_, url, mode, start = ARGV
uri = URI(url)
http = Net::HTTP.new(uri.host, uri.port)
http.max_retries = 0 if mode == "switched"
http.start do
  http.get(uri.path) if start == "warm"
  http.delete(uri.path, "Authorization" => "HMAC-SHA256 one")
end
