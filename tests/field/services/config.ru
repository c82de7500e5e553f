# The service for Puma, with its defaults. Each deletion takes 10 ms.
body = '{"deleted":true}'
run lambda { |_| sleep 0.01; [200, { "Content-Type" => "application/json", "Content-Length" => body.bytesize.to_s }, [body]] }
