// NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;

class Java {
    public static void main(String[] words) throws Exception {
        String url = words[1];
        boolean switched = words[2].equals("switched"), warm = words[3].equals("warm");
        switch (words[0]) {
            case "HttpURLConnection" -> {
                if (warm) ((HttpURLConnection) new URL(url).openConnection()).getInputStream().readAllBytes();
                var connection = (HttpURLConnection) new URL(url).openConnection();
                connection.setRequestMethod("DELETE");
                connection.setRequestProperty("Authorization", "HMAC-SHA256 one");
                if (switched) {
                    connection.setDoOutput(true);
                    connection.setFixedLengthStreamingMode(0);
                    connection.getOutputStream().close();
                }
                connection.getResponseCode();
            }
            case "java.net.http" -> {
                var client = java.net.http.HttpClient.newHttpClient();
                var text = java.net.http.HttpResponse.BodyHandlers.ofString();
                var request = java.net.http.HttpRequest.newBuilder(URI.create(url));
                if (warm) client.send(request.build(), text);
                client.send(request.DELETE().header("Authorization", "HMAC-SHA256 one").build(), text);
            }
            default -> throw new IllegalArgumentException(words[0]);
        }
    }
}
