# Net::HTTP with its defaults: max_retries 1. Reads "target<TAB>header" lines, prints "status request-id-of-the-first".
require "net/http"
base = URI(ARGV[0])
http = Net::HTTP.start(base.host, base.port)
STDIN.each_line(chomp: true) do |line|
  target, header = line.split("\t")
  begin
    answer = http.delete(target, "Authorization" => header)
    puts "#{answer.code} #{answer["x-saltgate-repeat-of"] || "-"}"
  rescue IOError, SystemCallError, Timeout::Error => error
    puts "0 #{error.class}"
    http.finish if http.started?
    http.start
  end
end
