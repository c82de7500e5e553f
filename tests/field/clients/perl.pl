# NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
use strict;
use warnings;

my ($name, $url, $mode, $start) = @ARGV;
my %signed = (Authorization => "HMAC-SHA256 one");
if ($name eq "LWP") {
    require LWP::UserAgent;
    my $agent = LWP::UserAgent->new(keep_alive => 1);
    $agent->get($url) if $start eq "warm";
    $agent->delete($url, %signed);
} else {
    require HTTP::Tiny;
    my $client = HTTP::Tiny->new;
    $client->get($url) if $start eq "warm";
    $client->delete($url, { headers => \%signed });
}
