// NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
import org.apache.http.client.methods.HttpDelete;
import org.apache.http.client.methods.HttpGet;
import org.apache.http.impl.client.HttpClientBuilder;
import org.apache.http.util.EntityUtils;

class HttpClient4 {
    public static void main(String[] words) throws Exception {
        var builder = HttpClientBuilder.create();
        if (words[2].equals("switched")) builder.disableAutomaticRetries();
        try (var client = builder.build()) {
            if (words[3].equals("warm")) EntityUtils.consume(client.execute(new HttpGet(words[1])).getEntity());
            var delete = new HttpDelete(words[1]);
            delete.setHeader("Authorization", "HMAC-SHA256 one");
            client.execute(delete);
        }
    }
}
